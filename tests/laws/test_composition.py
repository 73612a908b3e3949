"""WORM inside what optax and JAX wrap around a transformation, against a plain loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wormjax as wj
from tests.compiling import counted
from tests.laws.composition import (
    FACTOR,
    SGD,
    by_hand,
    close,
    gradient_sequence,
    loop,
    mask_by_sort,
    norm_scale,
    scanned,
    start,
    worm,
)

PLACED = {
    "first": optax.chain(worm(), SGD),
    "last": optax.chain(SGD, worm()),
    "nested": optax.chain(optax.identity(), optax.chain(optax.chain(worm())), SGD),
    "named": optax.named_chain(("worm", worm()), ("sgd", SGD)),
}


@pytest.mark.parametrize("placed", PLACED)
def test_in_a_chain(placed):
    # SGD is linear: first and last are the same thing
    grads = gradient_sequence(8)
    expected, mask = by_hand(start(), grads)
    params, state = loop(PLACED[placed], start(), grads)
    close(params, expected[-1])
    np.testing.assert_array_equal(wj.masks_of(state, params)["bn"]["scale"], mask)
    assert int(wj.early_bird_state(state).checks) == 3


def test_first_truncates_before_momentum_and_last_behind_it():
    grads = jax.tree.map(lambda p: jnp.ones((4, *p.shape)), start())
    outcomes = {}
    for place in ("first", "last"):
        parts = [worm(every=100), optax.trace(0.9)]
        tx = optax.chain(*(parts if place == "first" else parts[::-1]))
        state, update = tx.init(start()), jax.jit(tx.update)
        for _ in range(4):
            updates, state = update(jax.tree.map(lambda g: g[0], grads), state, start())
        outcomes[place] = np.asarray(updates["bn"]["scale"]), jax.tree.leaves(state)
    mask = mask_by_sort(start()["bn"]["scale"])
    velocity = 1 + 0.9 + 0.81 + 0.729
    for updates, _ in outcomes.values():
        np.testing.assert_allclose(updates, np.where(mask, 1, FACTOR) * velocity, rtol=1e-6)
    momenta = {
        place: [x for x in leaves if x.shape == (8,) and x.dtype == jnp.float32][-1]
        for place, (_, leaves) in outcomes.items()
    }
    np.testing.assert_allclose(momenta["last"], np.full(8, velocity), rtol=1e-6)
    np.testing.assert_allclose(momenta["first"], np.where(mask, 1, FACTOR) * velocity, rtol=1e-6)


SEEN = {
    "partition": optax.multi_transform(
        {"norm": optax.chain(worm(), SGD), "rest": SGD}, {"bn": "norm", "conv": "rest"}
    ),
    "empty part": optax.multi_transform(
        {
            "norm": optax.chain(worm(), SGD),
            "rest": optax.chain(worm(), SGD),  # there is nothing to score in it: no-op
            "none": worm(),
        },
        {"bn": "norm", "conv": "rest"},
    ),
    "masked": optax.chain(optax.masked(worm(), {"bn": True, "conv": False}), SGD),
    "masked leaf by leaf": optax.chain(
        optax.masked(worm(), lambda p: jax.tree.map(lambda x: x.ndim == 1, p)), SGD
    ),
    "masked to nothing": optax.chain(
        worm(), optax.masked(worm(), {"bn": False, "conv": False}), SGD
    ),
}


@pytest.mark.parametrize("name", SEEN)
def test_where_it_sees_a_part_of_the_tree(name):
    grads = gradient_sequence(8)
    expected, mask = by_hand(start(), grads)
    params, state = loop(SEEN[name], start(), grads)
    close(params, expected[-1])
    told = wj.masks_of(state, params)
    np.testing.assert_array_equal(told["bn"]["scale"], mask)
    assert told["conv"]["kernel"].ndim == 0
    wj.check(state)
    jax.block_until_ready(wj.detect(params, state))  # the driver finds every part, empty ones too


def test_masked_to_the_scale_alone_it_cannot_see_the_shift():
    tx = optax.masked(
        worm(), lambda p: jax.tree.map(lambda _: False, p) | {"bn": {"scale": True, "bias": False}}
    )
    ones = jax.tree.map(jnp.ones_like, start())
    updates, _ = tx.update(ones, tx.init(start()), start())
    mask = mask_by_sort(start()["bn"]["scale"])
    np.testing.assert_array_equal(updates["bn"]["scale"], np.where(mask, 1, FACTOR))
    np.testing.assert_array_equal(updates["bn"]["bias"], np.ones(8))


@pytest.mark.parametrize("policy", ["constant", "random"])
def test_under_multi_steps_optimizer_updates_are_counted(policy):
    # two mini-batches an update: detections at updates 0, 3, 6, that is mini-batches 0-1, 6-7, 12-13
    chosen = wj.policies.constant(FACTOR)
    if policy == "random":
        chosen = wj.policies.random_masks(jax.random.key(0), chosen)
    tx = optax.MultiSteps(optax.chain(worm(policy=chosen), SGD), every_k_schedule=2)
    grads = gradient_sequence(8)
    twice = jax.tree.map(lambda g: jnp.repeat(g, 2, axis=0), grads)
    expected, mask = by_hand(start(), grads)
    with jax.numpy_dtype_promotion("standard"):  # optax's own arithmetic mixes dtypes here
        params, state = loop(tx, start(), twice)
        odd, unfinished = loop(tx, start(), jax.tree.map(lambda g: g[:13], twice))

    told = wj.early_bird_state(state)
    assert int(told.checks) == 3
    assert int(state.inner_opt_state[0].count) == 8
    assert int(wj.early_bird_state(unfinished).checks) == 2  # the thirteenth only accumulates
    if policy == "constant":
        close(params, expected[-1])
        close(odd, expected[5])
        np.testing.assert_array_equal(wj.masks_of(state, params)["bn"]["scale"], mask)
    else:
        assert int(wj.masks_of(state, params)["bn"]["scale"].sum()) == 4


STATIC = ("score", "prune_ratio", "window", "epsilon", "margin", "every")


def test_under_inject_hyperparams_the_factor_changes_without_compiling():
    settings = {"prune_ratio": 0.5, "window": 2, "epsilon": 0.9, "margin": 0.1, "every": 1}
    made = optax.inject_hyperparams(wj.worm, static_args=STATIC)(
        norm_scale, factor=FACTOR, **settings
    )
    params, ones = start(), jax.tree.map(jnp.ones_like, start())
    mask = mask_by_sort(params["bn"]["scale"])
    (update, programs), state = counted(made.update), made.init(params)
    updates, state = update(ones, state, params)
    assert updates["bn"]["scale"].tolist() == [1.0] * 8  # the trigger is not reached yet
    updates, state = update(ones, state, params)
    compiled = len(programs)
    np.testing.assert_allclose(updates["bn"]["scale"], np.where(mask, 1, FACTOR))

    for factor in (0.5, 0.0, 1.0):
        state.hyperparams["factor"] = jnp.float32(factor)
        updates, state = update(ones, state, params)
        np.testing.assert_array_equal(updates["bn"]["scale"], np.where(mask, 1, factor))
        assert float(state.inner_state.truncation.factor) == factor
    assert len(programs) == compiled


def test_under_inject_hyperparams_the_factor_may_follow_a_schedule():
    made = optax.inject_hyperparams(wj.worm, static_args=STATIC)(
        norm_scale,
        window=2,
        epsilon=0.9,
        margin=0.1,
        every=1,
        factor=lambda step: 1.0 / (1.0 + step.astype(jnp.float32)),
    )
    params, ones = start(), jax.tree.map(jnp.ones_like, start())
    mask = mask_by_sort(params["bn"]["scale"])
    state, seen = made.init(params), []
    for _ in range(4):
        updates, state = made.update(ones, state, params)
        seen.append(np.asarray(updates["bn"]["scale"])[~mask])
    np.testing.assert_allclose(seen, np.repeat([[1, 1 / 2, 1 / 3, 1 / 4]], 4, axis=0).T, rtol=1e-6)


def test_under_inject_hyperparams_truncate_and_a_policy_of_its_own():
    masks = {"bn": {"scale": jnp.arange(8) < 4, "bias": jnp.array(True)}}
    masks["conv"] = {"kernel": jnp.array(True)}
    made = optax.inject_hyperparams(wj.truncate, static_args="masks")(masks, 0.5)
    params, ones = start(), jax.tree.map(jnp.ones_like, start())
    state = made.init(params)
    for factor in (0.5, 0.125):
        state.hyperparams["factor"] = jnp.float32(factor)
        updates, state = made.update(ones, state, params)
        assert updates["bn"]["scale"].tolist() == [1] * 4 + [factor] * 4

    # a policy that follows the distance is not overruled by a factor that is injected
    made = optax.inject_hyperparams(wj.worm, static_args=STATIC)(
        norm_scale, window=2, every=1, policy=wj.policies.constant(0.5), factor=0.125
    )
    updates, _ = made.update(ones, made.init(params), params)
    mask = mask_by_sort(params["bn"]["scale"])
    np.testing.assert_array_equal(updates["bn"]["scale"], np.where(mask, 1, 0.5))


def test_under_apply_if_finite_a_rejected_update_is_not_counted():
    tx = optax.apply_if_finite(optax.chain(worm(), SGD), max_consecutive_errors=5)
    grads = gradient_sequence(8)
    spoiled = jax.tree.map(lambda g: jnp.insert(g, 3, jnp.nan, axis=0), grads)
    expected, mask = by_hand(start(), grads)
    params, state = loop(tx, start(), spoiled)

    close(params, expected[-1])
    assert int(state.total_notfinite) == 1
    assert int(state.inner_state[0].count) == 8
    assert int(wj.early_bird_state(state).checks) == 3
    np.testing.assert_array_equal(wj.masks_of(state, params)["bn"]["scale"], mask)


def test_under_jit_and_scan():
    tx, grads = optax.chain(worm(), SGD), gradient_sequence(8)
    expected, _ = by_hand(start(), grads)
    (params, state), trajectory = jax.jit(functools.partial(scanned, tx))(
        start(), tx.init(start()), grads
    )
    close(params, expected[-1])
    for t, theirs in enumerate(expected):
        close(jax.tree.map(lambda x, t=t: x[t], trajectory), theirs)
    looped, again = loop(tx, start(), grads)
    jax.tree.map(np.testing.assert_array_equal, again[0].detector, state[0].detector)
    close(looped, params)


def test_without_jit_as_with_it():
    tx, grads = optax.chain(worm(), SGD), gradient_sequence(4)
    params, state = start(), tx.init(start())
    for t in range(4):
        updates, state = tx.update(jax.tree.map(lambda x, t=t: x[t], grads), state, params)
        params = optax.apply_updates(params, updates)
    close(params, by_hand(start(), grads)[0][-1])
