"""WORM as one transformation: when it detects, what it truncates, and what it says when misused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import wormjax as wj
from tests.compiling import counted

norm_scale = wj.scores.norm_scale


def params_of(scale, shift=None, kernel=None):
    scale = jnp.asarray(scale, jnp.float32)
    return {
        "bn": {"scale": scale, "bias": jnp.zeros_like(scale) if shift is None else shift},
        "conv": {"kernel": jnp.ones((2, scale.size)) if kernel is None else kernel},
    }


ONES = jax.tree.map(jnp.ones_like, params_of(np.ones(4)))
FOUR = params_of([0.1, 0.7, 0.4, 0.9])


def test_every_n_detects_at_updates_0_n_2n_on_the_parameters_before_the_update():
    tx = wj.worm(norm_scale, window=2, every=3)
    state, update = tx.init(FOUR), jax.jit(tx.update)
    checks, newest = [], []
    for step in range(8):
        # the scales turn by one place a step, so that the mask tells which parameters were scored
        scale = np.roll([0.1, 0.7, 0.4, 0.9], step)
        _, state = update(ONES, state, params_of(scale))
        checks.append(int(state.detector.checks))
        newest.append(state.detector.newest["bn"]["scale"].tolist())

    assert checks == [1, 1, 1, 2, 2, 2, 3, 3]
    kept = [[bool(k) for k in np.roll([False, True, False, True], s)] for s in (0, 3, 6)]
    assert newest == [kept[0]] * 3 + [kept[1]] * 3 + [kept[2]] * 2
    assert int(state.count) == 8


def test_a_mask_truncates_from_the_update_at_which_it_was_drawn():
    tx = wj.worm(norm_scale, window=2, every=2, policy=wj.policies.constant(0.5))
    state = tx.init(FOUR)
    first, state = tx.update(ONES, state, FOUR)
    assert first["bn"]["scale"].tolist() == [0.5, 1, 0.5, 1]
    turned = params_of([0.9, 0.7, 0.4, 0.1])
    second, state = tx.update(ONES, state, turned)  # not a detection: the old mask holds
    assert second["bn"]["scale"].tolist() == [0.5, 1, 0.5, 1]
    third, _ = tx.update(ONES, state, turned)
    assert third["bn"]["scale"].tolist() == [1, 1, 0.5, 0.5]


def test_without_every_only_the_driver_detects():
    tx = optax.chain(
        wj.worm(norm_scale, window=2, policy=wj.policies.constant(0.5)), optax.sgd(1.0)
    )
    state = tx.init(FOUR)
    for _ in range(3):
        updates, state = tx.update(ONES, state, FOUR)
        assert updates["bn"]["scale"].tolist() == [-1] * 4
    assert int(wj.early_bird_state(state).checks) == 0

    for epoch in range(3):
        state = wj.detect(FOUR, state)
        assert int(wj.early_bird_state(state).checks) == epoch + 1
        updates, state = tx.update(ONES, state)  # and it needs no parameters
        assert updates["bn"]["scale"].tolist() == [-0.5, -1, -0.5, -1]
    assert int(wj.early_bird_state(state).emerged_at) == 1


def test_detect_advances_the_detector_only():
    tx = optax.chain(wj.worm(norm_scale, window=2), optax.rmsprop(0.1, momentum=0.9))
    _, state = tx.update(ONES, tx.init(FOUR), FOUR)
    after = wj.detect(FOUR, state)

    jax.tree.map(np.testing.assert_array_equal, state[1:], after[1:])
    assert int(after[0].count) == int(state[0].count) == 1


def test_the_driver_and_the_transformation_draw_the_same_tickets():
    inside = wj.worm(norm_scale, window=2, every=2)
    outside = wj.worm(norm_scale, window=2)
    a, b = inside.init(FOUR), outside.init(FOUR)
    random = np.random.default_rng(0)
    for step in range(6):
        p = params_of(random.normal(size=4))
        if step % 2 == 0:
            b = wj.detect(p, b)
        out_a, a = inside.update(p, a, p)
        out_b, b = outside.update(p, b, p)
        jax.tree.map(np.testing.assert_array_equal, (out_a, a.detector), (out_b, b.detector))
        jax.tree.map(np.testing.assert_array_equal, a.truncation, b.truncation)


def test_the_default_policy_waits_for_epsilon_plus_margin_and_latches():
    # 20 scales, window 2: D_mean is the one distance; the trigger of 0.1 + 0.05 is 3 entries of 20
    def at(swaps):
        values = np.arange(20, 0, -1.0)
        for i in range(swaps):
            values[i], values[10 + i] = values[10 + i], values[i]
        return params_of(values)

    tx = wj.worm(norm_scale, window=2, factor=0.25)
    state, seen = tx.init(at(0)), []
    for swaps in (0, 4, 2, 3, 9):  # distances 1, .4, .2, .1, .6
        state = wj.detect(at(swaps), state)
        seen.append(float(state.truncation.factor))
    assert seen == [1, 1, 1, 0.25, 0.25]

    tight = wj.worm(norm_scale, window=2, factor=0.25, epsilon=0.05, margin=0.05)
    state = tight.init(at(0))
    for swaps in (2, 3):  # a distance of exactly 0.1 = 0.05 + 0.05 is not below it
        state = wj.detect(at(swaps), state)
    assert float(state.truncation.factor) == 1
    assert float(wj.detect(at(3), state).truncation.factor) == 0.25


POLICIES = {
    "off": wj.policies.off(),
    "constant": wj.policies.constant(0.5),
    "greedy": wj.policies.greedy(),
    "greedy-trigger": wj.policies.greedy(0.015, 0.01),
    "worm": wj.policies.worm(),
    "worm-unlatched": wj.policies.worm(latch=False),
    "random": wj.policies.random_masks(jax.random.key(0), wj.policies.constant(0.5)),
    "default": None,
}


@pytest.mark.parametrize("placed", ["first", "last"])
@pytest.mark.parametrize("name", POLICIES)
def test_w_d3_every_policy_trains_and_truncates_as_it_says(name, placed):
    worm = wj.worm(norm_scale, window=2, policy=POLICIES[name])
    sgd = optax.sgd(0.25)
    tx = optax.chain(worm, sgd) if placed == "first" else optax.chain(sgd, worm)
    p, state = FOUR, tx.init(FOUR)
    for _ in range(3):
        state = wj.detect(p, state)
        updates, state = jax.jit(tx.update)(ONES, state, p)
    mine = state[0] if placed == "first" else state[1]
    expected = {
        "off": 1.0,
        "constant": 0.5,
        "greedy": 0.0,
        "greedy-trigger": 0.01,
        "worm": 0.003,
        "worm-unlatched": 0.003,
        "random": 0.5,
        "default": 0.003,
    }[name]
    mask = np.array(mine.truncation.masks["bn"]["scale"])
    assert mask.sum() == 2
    np.testing.assert_allclose(
        updates["bn"]["scale"], np.where(mask, -0.25, -0.25 * expected), rtol=1e-6
    )
    np.testing.assert_array_equal(updates["bn"]["bias"], updates["bn"]["scale"])
    np.testing.assert_array_equal(updates["conv"]["kernel"], -0.25 * np.ones((2, 4)))


def test_o_w1_convolutions_are_untouched_and_the_shift_follows_its_scale():
    # W-D2: the mask of a layer has that layer's shape, not that of all layers together
    params = {
        "conv1": {"kernel": jnp.ones((3, 3, 1, 4))},
        "bn1": params_of([0.1, 0.7, 0.4, 0.9])["bn"],
        "bn2": params_of([0.2, 0.3, 0.8, 1.0, 0.6, 0.5])["bn"],
        "head": {"kernel": jnp.ones((6, 2)), "bias": jnp.ones(2)},
    }
    random = np.random.default_rng(0)
    grads = jax.tree.map(
        lambda x: jnp.asarray(random.normal(size=x.shape).astype(np.float32)), params
    )
    tx = wj.worm(norm_scale, policy=wj.policies.constant(0.003))
    state = wj.detect(params, tx.init(params))
    out, state = tx.update(grads, state, params)

    kept = {"bn1": [False, True, False, True], "bn2": [False, False, True, True, True, False]}
    for name, mask in kept.items():
        for leaf in ("scale", "bias"):
            assert state.truncation.masks[name][leaf].shape == params[name][leaf].shape
            assert state.truncation.masks[name][leaf].tolist() == mask
            g = np.asarray(grads[name][leaf])
            np.testing.assert_array_equal(out[name][leaf], np.where(mask, g, np.float32(0.003) * g))
    for name in ("conv1", "head"):
        jax.tree.map(np.testing.assert_array_equal, out[name], grads[name])
        assert all(m.ndim == 0 for m in jax.tree.leaves(state.truncation.masks[name]))


def test_o_w7_masks_go_through_a_flat_vector_and_back():
    params = {"a": jnp.array([3.0, 1.0]), "b": jnp.array([[2.0, 5.0], [4.0, 0.0]])}
    state = wj.early_bird(lambda p: p, 0.5, window=2).update(
        params, wj.early_bird(lambda p: p, 0.5, window=2).init(params)
    )
    vector, unravel = ravel_pytree(state.newest)
    assert vector.tolist() == [True, False, False, True, True, False]
    jax.tree.map(np.testing.assert_array_equal, unravel(vector), state.newest)


def test_scope_scored_leaves_the_shift_alone():
    for scope, shift in (("scale", [0.5, 1, 0.5, 1]), ("scored", [1, 1, 1, 1])):
        tx = wj.worm(norm_scale, window=2, every=1, scope=scope, policy=wj.policies.constant(0.5))
        out, state = tx.update(ONES, tx.init(FOUR), FOUR)
        assert out["bn"]["scale"].tolist() == [0.5, 1, 0.5, 1]
        assert out["bn"]["bias"].tolist() == shift
        assert wj.masks_of(state, FOUR)["bn"]["bias"].ndim == (1 if scope == "scale" else 0)


def test_frozen_window_truncates_what_every_mask_of_the_window_prunes():
    random = np.random.default_rng(2)
    sequence = [random.normal(size=12) ** 2 for _ in range(7)]
    masks = [np.isin(np.arange(12), np.argsort(s)[6:]) for s in sequence]
    for frozen in ("newest", "window"):
        tx = wj.worm(norm_scale, window=3, frozen=frozen, policy=wj.policies.constant(0.5))
        state = tx.init(params_of(sequence[0]))
        for t, values in enumerate(sequence):
            state = wj.detect(params_of(values), state)
            window = masks[max(0, t - 2) : t + 1]
            union = np.any(window, axis=0) if t >= 2 else np.ones(12, bool)
            expected = masks[t] if frozen == "newest" else union
            in_force = wj.masks_of(state, params_of(values))["bn"]
            np.testing.assert_array_equal(in_force["scale"], expected)
            np.testing.assert_array_equal(in_force["bias"], expected)


def train(tx, steps=12):
    """A step as a user writes it, with a loss that couples every parameter; compiled once."""

    def loss(p, x):
        y = x @ p["conv"]["kernel"] * jnp.broadcast_to(p["bn"]["scale"], (2, 4))
        return jnp.sum((y + jnp.broadcast_to(p["bn"]["bias"], (2, 4))) ** 2)

    def one(p, state, x):
        updates, state = tx.update(jax.grad(loss)(p, x), state, p)
        return optax.apply_updates(p, updates), state

    step, programs = counted(one)

    def run(state):
        random = np.random.default_rng(4)
        p, trajectory = FOUR, []
        for i in range(steps):
            if i % 3 == 0:
                state = wj.detect(p, state)
            p, state = step(p, state, jnp.asarray(random.normal(size=(2, 2)), jnp.float32))
            trajectory.append(p)
        return trajectory

    run.programs = programs
    return run


@pytest.mark.parametrize("opt", [optax.sgd(0.05, momentum=0.9), optax.rmsprop(0.05)])
def test_o_w2_factor_one_is_training_without_truncation_bit_for_bit(opt):
    def with_policy(policy):
        return optax.chain(wj.worm(norm_scale, window=2, policy=policy), opt)

    # one program, two states: the policies are numbers inside them
    run = train(with_policy(wj.policies.off()))
    off = run(with_policy(wj.policies.off()).init(FOUR))
    one = run(with_policy(wj.policies.constant(1.0)).init(FOUR))
    half = run(with_policy(wj.policies.constant(0.5)).init(FOUR))

    jax.tree.map(np.testing.assert_array_equal, one, off)
    assert not np.array_equal(half[-1]["bn"]["scale"], off[-1]["bn"]["scale"])
    assert len(run.programs) == 1


def test_o_w4_new_masks_factors_and_policies_compile_nothing():
    traced = []

    def watched(params):
        traced.append(1)
        return norm_scale(params)

    tx = optax.chain(wj.worm(watched, window=2, every=2), optax.sgd(0.1))
    (update, programs), state = counted(tx.update), tx.init(FOUR)
    for _ in range(2):
        _, state = update(ONES, state, FOUR)
    seen = len(traced), len(programs)
    for step in range(6):
        mine, *rest = state
        mine = dataclasses.replace(
            mine,
            truncation=dataclasses.replace(mine.truncation, factor=jnp.float32(0.1 * step)),
            policy=dataclasses.replace(mine.policy, factor=jnp.float32(0.01 * step)),
        )
        _, state = update(ONES, (mine, *rest), params_of(np.roll([0.1, 0.7, 0.4, 0.9], step)))
    assert (len(traced), len(programs)) == seen


def test_the_policys_numbers_may_be_changed_in_mid_run():
    tx = wj.worm(norm_scale, window=2, policy=wj.policies.off())
    state = wj.detect(FOUR, wj.detect(FOUR, tx.init(FOUR)))
    assert float(state.truncation.factor) == 1.0
    other = wj.worm(norm_scale, window=2, policy=wj.policies.constant(0.25)).init(FOUR).policy
    state = wj.detect(FOUR, dataclasses.replace(state, policy=other))
    assert float(state.truncation.factor) == 0.25


def test_gradclip_leaves_the_fresh_networks_degenerate_mask_alone():
    # equal scales: the reference would scale every gradient of every channel
    tx = wj.worm(
        norm_scale, window=2, mask_rule="reference", every=1, policy=wj.policies.constant(0.1)
    )
    fresh = params_of(np.full(4, 0.5))
    out, state = tx.update(ONES, tx.init(fresh), fresh)
    assert out["bn"]["scale"].tolist() == [1] * 4
    assert not state.truncation.masks["bn"]["scale"].any()  # the empty mask of the reference's rule
    out, _ = tx.update(ONES, state, FOUR)
    np.testing.assert_allclose(out["bn"]["scale"], [0.1, 0.1, 0.1, 1], rtol=1e-6)


def test_w_d8_and_w_d11_the_detectors_settings_reach_it():
    def at(swap):
        values = np.arange(20, 0, -1.0)
        values[[0, 10]] = values[[10, 0]] if swap else values[[0, 10]]
        return params_of(values)

    for strict in (False, True):
        tx = wj.worm(norm_scale, window=2, strict=strict, cap=2)
        state = tx.init(at(False))
        for swap in (False, True):  # a distance of exactly epsilon = 0.1
            state = wj.detect(at(swap), state)
        told = wj.early_bird_state(state)
        assert bool(told.emerged) == (not strict)
        assert bool(told.no_ticket) == strict


def test_nan_scales_are_flagged_truncate_nothing_and_raise_on_the_host():
    tx = optax.chain(
        wj.worm(norm_scale, window=2, every=1, policy=wj.policies.constant(0.1)), optax.sgd(1.0)
    )
    state = tx.init(FOUR)
    _, state = jax.jit(tx.update)(ONES, state, FOUR)
    wj.check(state)
    updates, state = jax.jit(tx.update)(ONES, state, params_of([0.1, np.nan, 0.4, 0.9]))
    assert updates["bn"]["scale"].tolist() == [-1] * 4
    with pytest.raises(ValueError, match=r"'bn/scale' held NaN or infinity.*smaller learning rate"):
        wj.check(state)


def test_seed_axes_mark_the_counter_alone():
    tx = optax.chain(wj.worm(norm_scale, every=2), optax.rmsprop(0.1))
    state = tx.init(FOUR)
    axes = wj.seed_axes(state)

    assert axes[0].count is None
    batched = jax.tree.leaves(axes)
    assert set(batched) == {0}
    assert len(batched) == len(jax.tree.leaves(state)) - 1
