"""Finding detectors and masks inside anybody's nested optimizer state."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wormjax as wj

PARAMS = {
    "bn": {"scale": jnp.array([0.1, 0.7, 0.4, 0.9]), "bias": jnp.zeros(4)},
    "conv": {"kernel": jnp.ones((2, 4))},
}
WORM = wj.worm(wj.scores.norm_scale, window=2)
WHOLE = jnp.array(True)


def masks(scale=WHOLE, kernel=WHOLE):
    return {"bn": {"scale": scale, "bias": WHOLE}, "conv": {"kernel": kernel}}


WRAPPED = {
    "bare": WORM,
    "chain": optax.chain(optax.clip(1.0), optax.chain(WORM, optax.trace(0.9)), optax.scale(-1)),
    "masked": optax.masked(WORM, {"bn": True, "conv": False}),
    "partition": optax.multi_transform(
        {"a": optax.chain(WORM, optax.sgd(1.0)), "b": optax.sgd(1.0)}, {"bn": "a", "conv": "b"}
    ),
    "finite": optax.apply_if_finite(WORM, 3),
    "multi": optax.MultiSteps(WORM, 2),
    "named": optax.named_chain(("worm", WORM), ("sgd", optax.sgd(1.0))),
    "dict": None,
}


@pytest.mark.parametrize("name", WRAPPED)
def test_the_detector_and_the_masks_are_found_wherever_they_are(name):
    tx = WRAPPED[name]
    state = {"a": [1, (WORM.init(PARAMS), None)]} if tx is None else tx.init(PARAMS)
    assert int(wj.early_bird_state(state).checks) == 0
    assert jax.tree.all(jax.tree.map(jnp.all, wj.masks_of(state, PARAMS)))

    state = wj.detect(PARAMS, wj.detect(PARAMS, state))
    told = wj.early_bird_state(state)
    assert isinstance(told, wj.EarlyBirdState)
    assert bool(told.emerged)
    in_force = wj.masks_of(state, PARAMS)
    assert jax.tree.structure(in_force) == jax.tree.structure(PARAMS)
    assert in_force["bn"]["scale"].tolist() == [False, True, False, True]
    assert in_force["bn"]["bias"].tolist() == [False, True, False, True]
    assert in_force["conv"]["kernel"].ndim == 0
    assert bool(in_force["conv"]["kernel"])
    wj.check(state)


def test_masks_of_says_true_where_nothing_is_seen_and_ands_where_several_see():
    first, second = jnp.array([True, True, False, False]), jnp.array([True, False, True, False])
    kernel = jnp.array([[True, False, True, True]])
    tx = optax.chain(
        wj.truncate(masks(scale=first), 0.5),
        optax.sgd(0.1),
        wj.truncate(masks(scale=second), 0.5),
        optax.masked(wj.truncate(masks(kernel=kernel), 0.5), {"bn": False, "conv": True}),
    )
    told = wj.masks_of(tx.init(PARAMS), PARAMS)

    assert told["bn"]["scale"].tolist() == [True, False, False, False]
    assert told["bn"]["bias"].ndim == 0
    assert told["conv"]["kernel"].tolist() == [[True, False, True, True]]
    np.testing.assert_array_equal(
        wj.apply_masks(PARAMS, told)["conv"]["kernel"], [[1, 0, 1, 1], [1, 0, 1, 1]]
    )


def test_masks_of_ands_a_channel_mask_with_a_full_one():
    channel = jnp.array([[True, False, True, True]])
    full = jnp.array([[True, True, False, True], [False, True, True, True]])
    tx = optax.chain(wj.truncate(masks(kernel=channel), 0.5), wj.truncate(masks(kernel=full), 0.5))
    told = wj.masks_of(tx.init(PARAMS), PARAMS)["conv"]["kernel"]
    np.testing.assert_array_equal(told, np.asarray(channel) & np.asarray(full))


def test_masks_of_reads_masks_that_the_caller_replaced():
    tx = optax.chain(wj.truncate(masks(), 0.5), optax.sgd(0.1))
    mine, *rest = tx.init(PARAMS)
    new = jnp.array([False, True, True, True])
    state = (dataclasses.replace(mine, masks=masks(scale=new)), *rest)
    np.testing.assert_array_equal(wj.masks_of(state, PARAMS)["bn"]["scale"], new)


def test_all_of_it_works_under_jit():
    tx = optax.chain(WORM, optax.sgd(0.1))

    @jax.jit
    def epoch(params, state):
        state = wj.detect(params, state)
        told = wj.early_bird_state(state)
        return state, told.mean_distance, wj.masks_of(state, params)

    state, distance, told = epoch(PARAMS, tx.init(PARAMS))
    assert float(distance) == 1.0
    state, distance, told = epoch(PARAMS, state)
    assert float(distance) == 0.0
    assert told["bn"]["scale"].tolist() == [False, True, False, True]


def test_detect_reaches_every_worm_with_its_own_part():
    other = {**PARAMS, "bn2": {"scale": jnp.array([5.0, 1.0, 4.0, 0.5]), "bias": jnp.zeros(4)}}
    tx = optax.multi_transform(
        {
            "a": wj.worm(wj.scores.norm_scale, window=2),
            "b": wj.worm(wj.scores.norm_scale, prune_ratio=0.25, window=2),
            "c": optax.identity(),
        },
        {"bn": "a", "bn2": "b", "conv": "c"},
    )
    state = tx.init(other)
    for _ in range(2):
        state = wj.detect(other, state)
    told = wj.masks_of(state, other)
    assert told["bn"]["scale"].tolist() == [False, True, False, True]
    assert told["bn2"]["scale"].tolist() == [True, True, True, False]
    parts = [wj.early_bird_state(state.inner_states[name]) for name in ("a", "b")]
    assert [p.names for p in parts] == [("bn/scale",), ("bn2/scale",)]
    assert all(bool(p.emerged) for p in parts)


def test_a_state_without_a_detector():
    for tx in (optax.adam(0.1), wj.truncate(masks(), 0.5)):
        with pytest.raises(ValueError, match=r"holds 0 Early-Bird detectors.*Put wormjax.worm"):
            wj.early_bird_state(tx.init(PARAMS))


def test_a_state_with_several_detectors():
    state = optax.chain(WORM, WORM).init(PARAMS)
    with pytest.raises(ValueError, match=r"holds 2 Early-Bird detectors.*the part you mean"):
        wj.early_bird_state(state)
    assert wj.early_bird_state(state[1]).window == 2


def test_a_state_without_masks():
    with pytest.raises(ValueError, match=r"No transformation .* holds masks. Put wormjax.truncate"):
        wj.masks_of(optax.adam(0.1).init(PARAMS), PARAMS)
    detected = wj.early_bird(wj.scores.norm_scale).init(PARAMS)
    with pytest.raises(ValueError, match="holds masks"):
        wj.masks_of(detected, PARAMS)  # a detector proposes masks; it puts none in force


def test_check_passes_over_states_without_problems_and_empty_parts():
    wj.check(optax.adam(0.1).init(PARAMS))
    wj.check({"nothing": None, "number": 3})
    empty = optax.masked(WORM, {"bn": False, "conv": False}).init(PARAMS)
    wj.check(wj.detect(PARAMS, empty))


def test_check_gathers_the_problems_of_every_detector():
    spoiled = {
        "a": {"scale": jnp.array([jnp.nan, 1.0])},
        "b": {"scale": jnp.array([1.0, jnp.inf])},
    }
    tx = optax.multi_transform({"a": WORM, "b": WORM}, {"a": "a", "b": "b"})
    state = wj.detect(spoiled, tx.init(spoiled))
    with pytest.raises(ValueError, match=r"'a/scale' held NaN.*'b/scale' held NaN"):
        wj.check(state)
