"""WORM with scope="group": every parameter of what is about to go is truncated, and nothing else, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wormjax as wj
from tests.compiling import counted
from wormjax.structure import extend_to_groups, find_groups, plan, shrink

FACTOR = 0.5


def apply(params, x):
    """Two convolutions with a scale and a shift behind each, and a head."""

    def block(p, x):
        y = jax.lax.conv_general_dilated(
            x, p["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        scale, bias = (p[k].reshape(1, 1, 1, -1) for k in ("scale", "bias"))
        return jnp.tanh(y * scale + bias)

    x = block(params["two"], block(params["one"], x))
    return jnp.mean(x, axis=(1, 2)) @ params["head"]


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def block(seed, inputs, outputs):
    return {
        "kernel": normal(seed, 3, 3, inputs, outputs),
        "scale": normal(seed + 1, outputs),
        "bias": normal(seed + 2, outputs),
    }


PARAMS = {"one": block(0, 2, 6), "two": block(10, 6, 4), "head": normal(20, 4, 3)}
GRADS = jax.tree.map(lambda p: jnp.cos(17 * p), PARAMS)
X = normal(30, 2, 5, 5, 2)
GROUPS = find_groups(apply, PARAMS, X)

POLICIES = {
    "off": (wj.policies.off(), 1.0),
    "constant": (wj.policies.constant(FACTOR), FACTOR),
    "greedy": (wj.policies.greedy(), 0.0),
    "worm": (wj.policies.worm(0.9, FACTOR), FACTOR),
    "worm-unlatched": (wj.policies.worm(0.9, FACTOR, latch=False), FACTOR),
    "random": (wj.policies.random_masks(jax.random.key(0), wj.policies.constant(FACTOR)), FACTOR),
}


def worm(**settings):
    return wj.worm(wj.scores.norm_scale, window=2, scope="group", groups=GROUPS, **settings)


def expected_masks(kept_one, kept_two):
    """By hand, from the kept channels of the two blocks."""
    one, two = np.asarray(kept_one), np.asarray(kept_two)

    def of(kernel, kept):
        return {"kernel": kernel, "scale": kept, "bias": kept}

    return {
        "one": of(np.broadcast_to(one, (3, 3, 2, 6)), one),
        "two": of(np.broadcast_to(one[:, None] & two[None, :], (3, 3, 6, 4)), two),
        "head": np.broadcast_to(two[:, None], (4, 3)),
    }


@pytest.mark.parametrize("every", [None, 1])
@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_truncates_the_parameters_of_whole_groups(name, every):
    policy, factor = POLICIES[name]
    tx = optax.chain(worm(policy=policy, every=every), optax.sgd(1.0))
    update, state = jax.jit(tx.update), tx.init(PARAMS)
    for _ in range(3):  # until the window is full and distances are known
        state = wj.detect(PARAMS, state) if every is None else state
        updates, state = update(GRADS, state, PARAMS)

    detector, in_force = wj.early_bird_state(state), wj.masks_of(state, PARAMS)
    drawn = [np.asarray(detector.newest[k]["scale"]) for k in ("one", "two")]
    if name == "random":
        drawn = [np.asarray(in_force[k]["scale"]) for k in ("one", "two")]
    assert sum(kept.sum() for kept in drawn) == 5
    expected = expected_masks(*drawn)
    for mask, want, p in zip(*map(jax.tree.leaves, (in_force, expected, PARAMS)), strict=True):
        np.testing.assert_array_equal(np.broadcast_to(mask, p.shape), want)
    for u, g, want in zip(*map(jax.tree.leaves, (updates, GRADS, expected)), strict=True):
        # kept entries bit for bit
        np.testing.assert_array_equal(u, -np.where(want, g, np.float32(factor) * np.asarray(g)))


def test_a_convolution_is_truncated_in_what_it_makes_and_in_what_it_reads():
    tx = worm(policy=wj.policies.constant(0.0), every=1)
    updates, state = jax.jit(tx.update)(GRADS, tx.init(PARAMS), PARAMS)
    newest = state.detector.newest
    one, two = (np.flatnonzero(~np.asarray(newest[k]["scale"])) for k in ("one", "two"))
    assert one.size
    assert two.size
    gone = np.asarray(updates["two"]["kernel"]) == 0
    assert gone[:, :, :, two].all()
    assert gone[:, :, one, :].all()
    assert not np.delete(np.delete(gone, two, axis=3), one, axis=2).any()
    # the same ticket under the default scope leaves every kernel alone
    narrow = wj.worm(wj.scores.norm_scale, window=2, policy=wj.policies.constant(0.0), every=1)
    updates, _ = narrow.update(GRADS, narrow.init(PARAMS), PARAMS)
    for name in ("one", "two"):
        np.testing.assert_array_equal(updates[name]["kernel"], GRADS[name]["kernel"])


def test_nothing_is_truncated_before_the_first_detection():
    tx = worm(policy=wj.policies.constant(0.0))
    updates, state = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, updates, GRADS)
    assert all(mask.all() for mask in jax.tree.leaves(wj.masks_of(state, PARAMS)))


def test_new_tickets_compile_nothing():
    tx = worm(policy=wj.policies.constant(FACTOR), every=1)
    (update, programs), state = counted(tx.update), tx.init(PARAMS)
    seen = set()
    for step in range(4):
        turned = jax.tree.map(lambda p, step=step: jnp.roll(p, step, axis=-1), PARAMS)
        _, state = update(GRADS, state, turned)
        mask = wj.masks_of(state, PARAMS)["two"]["kernel"]
        seen.add(np.asarray(mask).tobytes())
    assert len(seen) > 1
    assert len(programs) == 1


def test_the_frozen_window_is_extended_too():
    tx = worm(policy=wj.policies.constant(FACTOR), frozen="window")
    state = tx.init(PARAMS)
    for step in range(2):
        turned = jax.tree.map(lambda p, step=step: jnp.roll(p, step, axis=-1), PARAMS)
        state = wj.detect(turned, state)
    told = wj.early_bird_state(state).kept_in_window
    expected = extend_to_groups(GROUPS, told)
    jax.tree.map(np.testing.assert_array_equal, state.truncation.masks, expected)
    assert not np.array_equal(
        told["one"]["scale"], wj.early_bird_state(state).newest["one"]["scale"]
    )


def test_seeds_side_by_side():
    tx = worm(policy=wj.policies.constant(FACTOR), every=1)
    stacked = jax.tree.map(lambda p: jnp.stack([p, jnp.roll(p, 1, axis=-1)]), PARAMS)
    axes = wj.seed_axes(tx.init(PARAMS))
    states = jax.vmap(tx.init, out_axes=axes)(stacked)
    grads = jax.tree.map(lambda g: jnp.stack([g, g]), GRADS)
    updates, _ = jax.vmap(tx.update, (0, axes, 0), (0, axes))(grads, states, stacked)
    for seed in range(2):
        own = jax.tree.map(lambda p, seed=seed: p[seed], stacked)
        alone, _ = tx.update(GRADS, tx.init(own), own)
        together = jax.tree.map(lambda u, seed=seed: u[seed], updates)
        jax.tree.map(np.testing.assert_array_equal, together, alone)


def test_under_masked_it_truncates_the_parts_of_groups_that_it_sees():
    seen = {"one": {"kernel": True, "scale": True, "bias": False}, "two": True, "head": False}
    seen["two"] = dict.fromkeys(PARAMS["two"], True)
    tx = optax.masked(worm(policy=wj.policies.constant(0.0), every=1), seen)
    updates, state = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    whole = worm(policy=wj.policies.constant(0.0), every=1)
    everywhere, _ = whole.update(GRADS, whole.init(PARAMS), PARAMS)
    for name in ("one", "two"):
        for leaf in ("kernel", "scale", "bias"):
            source = everywhere if seen[name][leaf] else GRADS
            np.testing.assert_array_equal(updates[name][leaf], source[name][leaf])
    np.testing.assert_array_equal(updates["head"], GRADS["head"])
    assert wj.masks_of(state, PARAMS)["head"].ndim == 0


def test_at_factor_zero_a_dead_group_stays_dead_and_its_ticket_shrinks_exactly():
    # greedy truncation of whole groups: a group that starts at zero never moves again
    kept = {"one": [1, 2, 5], "two": [0, 3]}
    masks = jax.tree.map(lambda _: jnp.array(True), PARAMS)
    for name, channels in kept.items():
        size = PARAMS[name]["scale"].shape[0]
        masks[name]["scale"] = jnp.asarray(np.isin(np.arange(size), channels))
    masks = extend_to_groups(GROUPS, masks)
    params = wj.apply_masks(PARAMS, masks)
    tx = optax.chain(worm(policy=wj.policies.constant(0.0), every=1), optax.sgd(0.1, momentum=0.9))

    @jax.jit
    def step(p, state):
        grads = jax.grad(lambda p: jnp.mean(apply(p, X) ** 2))(p)
        updates, state = tx.update(grads, state, p)
        return optax.apply_updates(p, updates), state

    state = tx.init(params)
    for _ in range(5):
        params, state = step(params, state)
    jax.tree.map(np.testing.assert_array_equal, params, wj.apply_masks(params, masks))
    assert not np.array_equal(params["head"], wj.apply_masks(PARAMS, masks)["head"])
    ticket = shrink(plan(GROUPS, masks=masks), params, verify=True)
    np.testing.assert_allclose(
        ticket.apply(ticket.params, X), apply(params, X), rtol=1e-5, atol=1e-6
    )


def test_a_shrunk_network_needs_groups_of_its_own():
    tx = optax.chain(worm(policy=wj.policies.constant(FACTOR)), optax.sgd(0.1, momentum=0.9))
    state = wj.detect(PARAMS, tx.init(PARAMS))
    decided = plan(GROUPS, masks=wj.early_bird_state(state).newest)
    ticket = shrink(decided, PARAMS)
    small = find_groups(ticket.apply, ticket.params, X)
    again = wj.worm(wj.scores.norm_scale, window=2, scope="group", groups=small, every=1)
    _, state = again.update(ticket.params, again.init(ticket.params), ticket.params)
    assert int(wj.early_bird_state(state).checks) == 1
    assert wj.masks_of(state, ticket.params)["two"]["kernel"].ndim == 4


def test_what_it_refuses():
    with pytest.raises(ValueError, match="got scope='group' and no groups"):
        wj.worm(wj.scores.norm_scale, scope="group")
    with pytest.raises(ValueError, match="got scope='scale' and groups"):
        wj.worm(wj.scores.norm_scale, groups=GROUPS)
    narrow = jax.tree.map(lambda p: p[..., :3], PARAMS)
    with pytest.raises(ValueError, match=r"'one/scale' has shape \(3,\).*after shrinking too"):
        worm().init(narrow)
