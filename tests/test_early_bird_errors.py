"""What the Early-Bird detector says to wrong input: NaN scores, settings out of range, another model."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj

TOTAL = 12


def as_given(params):
    """A score for tests: the parameters are the scores."""
    return params


def tree(values):
    """Scores of two leaves from a flat list, with a leaf that is never pruned beside them."""
    flat = jnp.asarray(np.asarray(values, np.float32))
    return {"a": flat[:7], "b": flat[7:], "c": jnp.array(jnp.inf)}


def feed(detector, sequence):
    """Return the states after each of several detections."""
    state, states = detector.init(tree(sequence[0])), []
    for values in sequence:
        state = detector.update(tree(values), state)
        states.append(state)
    return states


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_is_flagged_under_jit_and_raised_on_the_host(bad):
    spoiled = np.arange(12.0)
    spoiled[9] = bad  # in leaf "b"
    detector = wj.early_bird(as_given, window=2)
    before, at, after, later = feed(
        detector, [np.arange(12.0), spoiled, np.arange(12.0), np.arange(12.0)]
    )

    wj.check(before)
    assert not bool(before.invalid)
    for state in (at, after, later):
        assert bool(state.invalid)
        assert not bool(state.emerged)
        with pytest.raises(ValueError, match=r"'b' held NaN or infinity"):
            wj.check({"somewhere": [state]})


def test_nan_does_not_spoil_a_ticket_already_drawn():
    detector = wj.early_bird(as_given, window=2)
    *_, drawn, spoiled = feed(detector, [np.arange(12.0), np.arange(12.0), np.full(12, np.nan)])
    jax.tree.map(np.testing.assert_array_equal, spoiled.masks, drawn.masks)
    assert bool(drawn.emerged)
    assert int(spoiled.emerged_at) == 1
    with pytest.raises(ValueError, match=r"(?s)'a' held.*'b' held"):
        wj.check(spoiled)


def test_nan_in_an_update_that_is_not_compiled_raises_at_once():
    detector = wj.early_bird(as_given, window=2)
    state = detector.init(tree(np.arange(12.0)))
    spoiled = tree([*range(11), np.nan])
    with jax.disable_jit(), pytest.raises(ValueError, match="'b' holds NaN or infinity"):
        detector.update(spoiled, state)


def test_check_names_every_spoiled_leaf_also_over_seeds_and_ratios():
    detector = wj.early_bird(as_given, (0.3, 0.5), window=2)
    spoiled = np.ones((3, TOTAL), np.float32) * np.arange(TOTAL, dtype=np.float32)
    spoiled[1, 0], spoiled[2, 8] = np.nan, np.inf
    trees = {"a": jnp.asarray(spoiled[:, :7]), "b": jnp.asarray(spoiled[:, 7:])}
    state = jax.vmap(lambda p: detector.update(p, detector.init(p)))(trees)

    assert state.invalid.tolist() == [False, True, True]
    with pytest.raises(ValueError, match=r"(?s)'a' held.*'b' held"):
        wj.check(state)
    wj.check(jax.tree.map(lambda x: x[0], state))


@pytest.mark.parametrize("ratio", [0, 1, 1.2, -0.1, 50, [0.5, 1.5], (1.0,)])
def test_a_prune_ratio_outside_the_unit_interval(ratio):
    if isinstance(ratio, int):
        ratio = float(ratio)
    with pytest.raises(ValueError, match="prune_ratio must lie strictly between 0 and 1"):
        wj.early_bird(as_given, ratio)


def test_a_prune_ratio_that_is_no_number():
    with pytest.raises(ValueError, match="prune_ratio must be a finite decimal number"):
        wj.early_bird(as_given, math.nan)
    with pytest.raises(ValueError, match="prune_ratio must be a finite decimal number"):
        wj.early_bird(as_given, "half")
    with pytest.raises(ValueError, match="empty sequence"):
        wj.early_bird(as_given, ())


@pytest.mark.parametrize("window", [1, 0, -3, 32])
def test_a_window_that_compares_nothing_or_does_not_fit(window):
    with pytest.raises(ValueError, match="window must be an integer from 2 to 31 masks"):
        wj.early_bird(as_given, window=window)


@pytest.mark.parametrize("epsilon", [-0.1, 1.0, 10.0])
def test_an_epsilon_that_is_no_distance(epsilon):
    with pytest.raises(ValueError, match=r"epsilon must lie in \[0, 1\)"):
        wj.early_bird(as_given, epsilon=epsilon)


def test_a_cap_that_ends_before_the_window_is_full():
    with pytest.raises(
        ValueError, match="cap=4 detections end before the window of 5 masks is full"
    ):
        wj.early_bird(as_given, cap=4)
    wj.early_bird(as_given, cap=5)


def test_a_model_without_normalisation():
    dense = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    with pytest.raises(ValueError, match=r"no normalisation scale.*dense/bias"):
        wj.early_bird(wj.scores.norm_scale).init(dense)


def test_a_score_that_ranks_nothing():
    detector = wj.early_bird(lambda params: jax.tree.map(lambda _: jnp.array(jnp.inf), params))
    with pytest.raises(ValueError, match=r"no prunable leaf among \['w'\].*`prunable` rule"):
        detector.init({"w": jnp.ones(3)})


def test_a_score_of_integers():
    detector = wj.early_bird(as_given, window=2)
    params = {"w": jnp.arange(4)}
    with pytest.raises(ValueError, match="'w' has dtype int32; scores are floats"):
        detector.update(params, detector.init(params))


def test_parameters_of_another_model():
    detector = wj.early_bird(as_given, window=2)
    state = detector.init(tree(np.arange(12.0)))
    other = {"a": jnp.ones(7), "z": jnp.ones(5), "c": jnp.array(jnp.inf)}
    with pytest.raises(ValueError, match=r"'z' with 12 entries.*'a', 'b' with 12.*new state"):
        detector.update(other, state)
    wider = {"a": jnp.ones(7), "b": jnp.ones(6), "c": jnp.array(jnp.inf)}
    with pytest.raises(ValueError, match="13 entries"):
        detector.update(wider, state)


def test_more_entries_than_the_counts_hold():
    shape = jax.ShapeDtypeStruct((30_000, 30_000), jnp.float32)
    with pytest.raises(ValueError, match="900,000,000 score entries are more than 32-bit counts"):
        wj.early_bird(as_given, window=5).init({"w": shape})
