"""One round: exact counts against the specification's numbers, and the choice against a sort in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wormjax.lottery import prune_step, round_counts, score_masks

VGG = 14_710_464
ROUND = [11768371, 9414697, 7531758, 6025406, 4820325, 3856260, 3085008, 2468006, 1974405, 1579524]
CEIL = [11768371, 9414696, 7531756, 6025404, 4820323, 3856258, 3085006, 2468004, 1974403]
OPEN_LTH = [11768370, 9414695, 7531755, 6025403, 4820321, 3856255, 3085003, 2468001, 1974399]


@pytest.mark.parametrize(
    ("rule", "expected"), [("round", ROUND), ("ceil", CEIL), ("open_lth", OPEN_LTH)]
)
def test_counts_of_vgg16_are_exact(rule, expected):
    assert round_counts(VGG, len(expected), count_rule=rule)[1:] == expected


def test_density_after_r_rounds_is_a_power_of_four_fifths():
    for r, count in enumerate(round_counts(VGG, 10)):
        assert abs(count / VGG - 0.8**r) < 5 / VGG


@pytest.mark.parametrize(("rule", "kept"), [("round", 8), ("ceil", 8), ("open_lth", 7)])
def test_ten_weights(rule, kept):
    params = {"w": np.arange(1, 11, dtype=np.float32)}
    masks = prune_step(params, {"w": jnp.asarray(np.ones(10, bool))}, count_rule=rule)
    np.testing.assert_array_equal(np.asarray(masks["w"]), np.arange(10) >= 10 - kept)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6))
def test_what_goes_is_what_a_sort_says(seed):
    """Ties in magnitude go by index, and what is pruned stays pruned."""
    rng = np.random.default_rng(seed)
    params = {
        "a": rng.integers(-4, 5, (3, 4)).astype(np.float32),
        "b": rng.integers(-4, 5, 7).astype(np.float32),
        "whole": np.ones(2, np.float32),
    }
    masks = {"a": rng.random((3, 4)) < 0.8, "b": rng.random(7) < 0.8, "whole": np.array(True)}
    masks["a"][0, 0] = masks["b"][0] = True
    params["a"][0, 0], params["b"][0] = 9, -9  # neither leaf is emptied
    found = prune_step(params, {k: jnp.asarray(m) for k, m in masks.items()})
    flat = np.concatenate([params["a"].ravel(), params["b"]])
    alive = np.concatenate([masks["a"].ravel(), masks["b"]])
    order = sorted(np.flatnonzero(alive), key=lambda i: (-abs(flat[i]), i))
    kept = np.zeros(19, bool)
    kept[order[: len(order) - round(len(order) / 5)]] = True
    np.testing.assert_array_equal(
        np.concatenate([np.ravel(found["a"]), np.ravel(found["b"])]), kept
    )
    assert found["whole"].ndim == 0


def test_leaf_scope_counts_leaf_by_leaf():
    params = {"a": np.arange(1, 11, dtype=np.float32), "b": np.arange(101, 106, dtype=np.float32)}
    masks = {"a": jnp.asarray(np.ones(10, bool)), "b": jnp.asarray(np.ones(5, bool))}
    found = prune_step(params, masks, scope="leaf")
    assert [np.asarray(m).sum() for m in found.values()] == [8, 4]
    found = prune_step(params, masks)
    assert [np.asarray(m).sum() for m in found.values()] == [7, 5]


@pytest.mark.parametrize("rate", [0, 1, 1.2, -0.1])
def test_a_rate_outside_the_unit_interval(rate):
    with pytest.raises(ValueError, match="rate must lie strictly between 0 and 1"):
        prune_step({"w": jnp.ones(4)}, {"w": jnp.ones(4, bool)}, rate=rate)


def test_an_emptied_leaf_is_named():
    params = {"big": np.arange(10, 18, dtype=np.float32), "small": np.full(2, 0.1, np.float32)}
    masks = {"big": jnp.asarray(np.ones(8, bool)), "small": jnp.asarray(np.ones(2, bool))}
    with pytest.raises(ValueError, match="would empty 'small'"):
        prune_step(params, masks)


def test_masks_of_another_model():
    with pytest.raises(ValueError, match="'v' is not in params"):
        prune_step({"w": jnp.ones(4)}, {"w": jnp.ones(4, bool), "v": jnp.ones(4, bool)})
    with pytest.raises(ValueError, match="one bit for several weights"):
        prune_step({"w": jnp.ones((4, 2))}, {"w": jnp.ones((1, 2), bool)})
    with pytest.raises(ValueError, match="nothing may be pruned"):
        prune_step({"w": jnp.ones(4)}, {"w": jnp.array(True)})


def test_weights_that_are_not_finite():
    with pytest.raises(ValueError, match="'w' hold NaN"):
        prune_step({"w": jnp.array([1.0, np.nan, 2, 3])}, {"w": jnp.ones(4, bool)})


def test_masks_of_any_score_have_an_exact_count():
    scores = {"a": jnp.array([0.0, 1.0, 1.0, 1.0]), "b": jnp.array([-2.0, 3.0])}
    masks = score_masks(scores, 3)
    np.testing.assert_array_equal(np.asarray(masks["a"]), [0, 1, 1, 0])
    np.testing.assert_array_equal(np.asarray(masks["b"]), [0, 1])
    with pytest.raises(ValueError, match="would empty 'a'"):
        score_masks(scores, 1)
    with pytest.raises(ValueError, match="kept=7 is no count of the 6"):
        score_masks(scores, 7)
