"""What this library keeps in an optimizer state goes on at the small size: windows, masks in force, triggers."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wormjax as wj
from wormjax.structure import find_groups, plan, shrink

WINDOW = 4


def apply(params, x):
    h = jnp.tanh(x @ params["a"]["w"] * params["a"]["scale"])
    return jnp.tanh(h @ params["b"]["w"] * params["b"]["scale"]) @ params["c"]


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) / 2, jnp.float32)


PARAMS = {
    "a": {"w": normal(0, 5, 8), "scale": normal(1, 1, 8)},
    "b": {"w": normal(2, 8, 6), "scale": normal(3, 1, 6)},
    "c": normal(4, 6, 3),
}
X = normal(5, 16, 5)
KEPT = {"a": np.array([0, 2, 3, 7]), "b": np.array([1, 4, 5])}


def score(params):
    """The two scales; all else is never pruned."""
    never = jax.tree.map(lambda _: jnp.array(jnp.inf), params)
    for name in ("a", "b"):
        if not isinstance(params[name], optax.MaskedNode):
            never[name] = {**never[name], "scale": jnp.abs(params[name]["scale"])}
    return never


@pytest.fixture(scope="module")
def planned():
    masks = jax.tree.map(lambda _: jnp.array(True), PARAMS)
    for name, kept in KEPT.items():
        mask = np.zeros(PARAMS[name]["scale"].shape, bool)
        mask[0, kept] = True
        masks[name]["scale"] = jnp.asarray(mask)
    return plan(find_groups(apply, PARAMS, X), masks=masks)


def detections(tx, count):
    """A state after some detections, each on other scales."""
    state = tx.init(PARAMS)
    for k in range(count):
        moved = jax.tree.map(lambda p, k=k: p + normal(10 + k, *p.shape) / 4, PARAMS)
        state = wj.detect(moved, state)
    return state


def window(state, name):
    """The window's masks of one scale, newest first, by NumPy."""
    plane = np.asarray(wj.early_bird_state(state).planes[name]["scale"])
    return np.stack([(plane >> j) & 1 for j in range(WINDOW)])


WORM = wj.worm(score, prune_ratio=0.5, window=WINDOW, epsilon=0.0, margin="0.35")
WRAPPED = {
    "first": optax.chain(WORM, optax.adam(0.01)),
    "last": optax.chain(optax.sgd(0.01), WORM),
    "masked": optax.masked(optax.chain(WORM, optax.adam(0.01)), {"a": True, "b": True, "c": False}),
    "steps": optax.MultiSteps(optax.chain(WORM, optax.adam(0.01)), 2),
}


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("count", [2, 6])
def test_the_window_is_restricted_and_counted_again(name, count, planned):
    tx = WRAPPED[name]
    state = detections(tx, count)
    ticket = shrink(planned, PARAMS, opt_state=state, tx=tx)
    told = wj.early_bird_state(ticket.opt_state)

    for leaf, kept in KEPT.items():
        np.testing.assert_array_equal(
            window(ticket.opt_state, leaf), window(state, leaf)[:, :, kept]
        )
    differ = [
        [np.sum(w[0] != w[j]) for w in (window(ticket.opt_state, leaf) for leaf in KEPT)]
        for j in range(WINDOW - 1, 0, -1)
    ]
    np.testing.assert_array_equal(told.disagreements, differ if count == 6 else [[4, 3]] * 3)
    assert (told.sizes, told.names) == ((4, 3), ("a/scale", "b/scale"))
    assert int(told.checks) == count

    masks = wj.masks_of(state, PARAMS)
    small = wj.masks_of(ticket.opt_state, ticket.params)
    for leaf, kept in KEPT.items():
        whole = np.asarray(masks[leaf]["scale"])
        np.testing.assert_array_equal(small[leaf]["scale"], whole[:, kept])
    assert any(not np.asarray(small[leaf]["scale"]).all() for leaf in KEPT)
    assert small["c"].ndim == 0


@pytest.mark.parametrize("name", WRAPPED)
def test_it_has_the_structure_of_a_fresh_one_and_goes_on(name, planned):
    tx = WRAPPED[name]
    ticket = shrink(planned, PARAMS, opt_state=detections(tx, 6), tx=tx)
    fresh = tx.init(ticket.params)
    assert jax.tree.structure(ticket.opt_state) == jax.tree.structure(fresh)
    assert jax.tree.map(jnp.shape, ticket.opt_state) == jax.tree.map(jnp.shape, fresh)

    state = wj.detect(ticket.params, ticket.opt_state)
    told = wj.early_bird_state(state)
    kept = [np.asarray(told.newest[leaf]["scale"]) for leaf in KEPT]
    assert sum(k.sum() for k in kept) == 7 - 7 // 2
    with jax.numpy_dtype_promotion("standard"):
        tx.update(jax.tree.map(jnp.ones_like, ticket.params), state, ticket.params)


def test_the_trigger_counts_the_small_networks_entries(planned):
    tx = WRAPPED["first"]
    state = detections(tx, 6)
    cut = shrink(planned, PARAMS, opt_state=state, tx=tx).opt_state[0]
    assert int(state[0].policy.below) == math.ceil(0.35 * 3 * 14)
    assert int(cut.policy.below) == math.ceil(0.35 * 3 * 7)
    engaged = dataclasses.replace(state[0].policy, latched=jnp.array(True))
    state = (dataclasses.replace(state[0], policy=engaged), *state[1:])
    assert bool(shrink(planned, PARAMS, opt_state=state, tx=tx).opt_state[0].policy.latched)


def test_masks_in_force_hold_for_the_kept_entries(planned):
    masks = jax.tree.map(lambda _: jnp.array(True), PARAMS)
    masks["a"]["w"] = jnp.arange(8)[None] % 2 == 0
    masks["b"]["w"] = normal(6, 8, 6) > 0
    masks["c"] = normal(7, 1, 3) > 0
    tx = optax.chain(wj.truncate(masks, 0.0), optax.sgd(1.0, momentum=0.9))
    ticket = shrink(planned, PARAMS, opt_state=tx.init(PARAMS), tx=tx)
    small = ticket.opt_state[0].masks
    np.testing.assert_array_equal(small["a"]["w"], [[True, True, False, False]])
    np.testing.assert_array_equal(
        small["b"]["w"], np.asarray(masks["b"]["w"])[np.ix_(KEPT["a"], KEPT["b"])]
    )
    np.testing.assert_array_equal(small["c"], masks["c"])  # shared along what was cut
    assert small["a"]["scale"].ndim == 0
    # the masks that tx was built with are of the full size; those of the state are in force
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, ticket.params), ticket.opt_state)
    np.testing.assert_array_equal(updates["a"]["w"], [[-1, -1, 0, 0]] * 5)


def test_the_trigger_is_known_where_another_transformation_refuses_the_small_size(planned):
    masks = jax.tree.map(lambda p: jnp.ones(p.shape, bool), PARAMS)
    tx = optax.chain(wj.truncate(masks, 0.0), WORM)
    cut = shrink(planned, PARAMS, opt_state=tx.init(PARAMS), tx=tx).opt_state
    assert int(cut[1].policy.below) == math.ceil(0.35 * 3 * 7)
    always = wj.worm(score, policy=wj.policies.constant(0.1))
    for one, below in ((always, 2**31 - 1), (wj.worm(score, policy=wj.policies.off()), 0)):
        state = shrink(planned, PARAMS, opt_state=one.init(PARAMS), tx=one).opt_state
        assert int(state.policy.below) == below


def by_group(groups, **settings):
    policy = wj.policies.constant(0.0)
    return wj.worm(
        score, window=2, scope="group", groups=groups, policy=policy, frozen="newest", **settings
    )


@pytest.mark.parametrize("every", [None, 1])
def test_whole_groups_of_the_small_network_are_truncated_by_the_same_transformation(every, planned):
    tx = optax.chain(by_group(planned.groups, every=every), optax.sgd(1.0))
    state = wj.detect(PARAMS, tx.init(PARAMS))
    ticket = shrink(planned, PARAMS, opt_state=state, tx=tx)
    assert {g.name: g.size for g in ticket.opt_state[0].settings.groups} == planned.widths

    # what was in force is restricted; NumPy
    before, cut = wj.masks_of(state, PARAMS), wj.masks_of(ticket.opt_state, ticket.params)
    before = jax.tree.map(lambda m, p: np.broadcast_to(m, p.shape), before, PARAMS)
    expected = {
        "a": {k: x[:, KEPT["a"]] for k, x in before["a"].items()},
        "b": {
            "w": before["b"]["w"][np.ix_(KEPT["a"], KEPT["b"])],
            "scale": before["b"]["scale"][:, KEPT["b"]],
        },
        "c": before["c"][KEPT["b"]],
    }
    assert not all(x.all() for x in jax.tree.leaves(expected))
    jax.tree.map(lambda m, w: np.testing.assert_array_equal(m & np.ones_like(w), w), cut, expected)

    # the next detection: the smallest 3 of 7 scales, everywhere
    state = wj.detect(ticket.params, ticket.opt_state) if every is None else ticket.opt_state
    ones = jax.tree.map(jnp.ones_like, ticket.params)
    updates, state = jax.jit(tx.update)(ones, state, ticket.params)
    scales = [np.abs(np.asarray(ticket.params[k]["scale"])).ravel() for k in ("a", "b")]
    limit = np.sort(np.concatenate(scales))[3]
    a, b = (s >= limit for s in scales)
    live = {
        "a": {"w": np.ones((5, 1)) * a, "scale": a[None]},
        "b": {"w": a[:, None] * b[None], "scale": b[None]},
        "c": b[:, None] * np.ones((1, 3)),
    }
    jax.tree.map(np.testing.assert_array_equal, updates, jax.tree.map(lambda x: -1.0 * x, live))


def test_groups_are_found_again_and_the_ticket_is_read_with_them(planned, tmp_path):
    tx = optax.chain(by_group(planned.groups), optax.sgd(0.1, momentum=0.9))
    ticket = shrink(planned, PARAMS, opt_state=detections(tx, 1), tx=tx)
    wj.save_ticket(tmp_path / "t", ticket)
    small = find_groups(ticket.apply, ticket.params, X)
    again = optax.chain(by_group(small), optax.sgd(0.1, momentum=0.9))
    found = wj.load_ticket(tmp_path / "t", apply, PARAMS, tx=again)
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.tree.leaves(found.opt_state),
        jax.tree.leaves(ticket.opt_state),
    )
    assert found.opt_state[0].settings.groups is small
    with pytest.raises(wj.structure.TicketError, match="Build the optimizer for the small sizes"):
        wj.load_ticket(tmp_path / "t", apply, PARAMS, tx=tx)


def test_groups_that_cannot_be_found_again_are_told_of(planned):
    class Whole:
        def extend(self, masks):
            return masks

    tx = by_group(Whole())
    with pytest.raises(
        ValueError, match=r"WormState cannot be cut at its root: its groups are not of .*'reset'"
    ):
        shrink(planned, PARAMS, opt_state=tx.init(PARAMS), tx=tx)
    one = {name: np.arange(len(kept)) == 0 for name, kept in planned.kept.items()}
    thin, tx = wj.Plan(planned.groups, one), by_group(planned.groups)
    with pytest.raises(ValueError, match=r"cannot be found again in the small network .*'reset'"):
        shrink(thin, PARAMS, opt_state=tx.init(PARAMS), tx=tx)
