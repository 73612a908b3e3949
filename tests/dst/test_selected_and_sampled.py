"""Counts that a selection or masks give, and masks that are sampled from counts."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj
from tests.dst.networks import all_of, ordered
from wormjax.dst import distributions as dist

MAY = {"a": True, "b": False, "c": True}
SHAPES = {"a": (6, 5), "b": (4,), "c": (9,)}
PARAMS = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in SHAPES.items()}


def _values(shapes, seed=0):
    random = np.random.default_rng(seed)
    return {n: random.standard_normal(s).astype(np.float32) for n, s in ordered(shapes).items()}


def test_global_magnitude_keeps_the_densities_of_a_global_selection():
    params = _values([(6, 5), (8,), (4, 4)])
    params["01"] *= 3.0
    may = {"00": True, "01": True, "02": False}
    flat = np.concatenate([np.abs(params["00"]).ravel(), np.abs(params["01"]).ravel()])
    top = np.argsort(-flat, kind="stable")[:19]
    expected = (int((top < 30).sum()), int((top >= 30).sum()))
    found = dist.global_magnitude()(params, may, Fraction(1, 2))
    assert found == expected
    assert all(type(c) is int for c in found)
    traced = jax.jit(lambda p: dist.global_magnitude()(p, may, Fraction(1, 2)))(params)
    assert tuple(int(c) for c in traced) == expected


def test_the_best_entry_of_every_leaf_stays():
    scores = {"a": jnp.arange(1.0, 9.0), "b": jnp.zeros(5), "c": jnp.full(3, -1.0)}
    counts = dist.of_scores(scores)(scores, all_of(scores), Fraction(5, 16))
    assert counts == (3, 1, 1)
    with pytest.raises(ValueError, match="2 entries for 3 prunable leaves"):
        dist.of_scores(scores)(scores, all_of(scores), Fraction(2, 16))
    with pytest.raises(ValueError, match=r"score at 'a' has shape \(\)"):
        dist.of_scores({**scores, "a": jnp.array(jnp.inf)})(scores, all_of(scores), Fraction(1, 2))
    with pytest.raises(ValueError, match="'b' holds NaN or infinity"):
        dist.of_scores({**scores, "b": jnp.full(5, jnp.nan)})(
            scores, all_of(scores), Fraction(1, 2)
        )


def test_of_masks_gives_back_the_counts_of_masks():
    shapes = {"a": (6, 5), "b": (8,), "c": (3, 4)}
    counts = {"a": 11, "b": 5, "c": 2}
    masks = {n: (np.arange(np.prod(s)) < counts[n]).reshape(s) for n, s in shapes.items()}
    params = {n: np.ones(s, np.float32) for n, s in shapes.items()}
    rule = dist.of_masks(jax.tree.map(jnp.asarray, masks))
    assert rule(params, all_of(params), Fraction(18, 50)) == (11, 5, 2)
    assert sum(rule(params, all_of(params), Fraction(9, 10))) == 45  # "b" is full before the others
    with pytest.raises(TypeError, match="'a' is being traced"):
        jax.jit(lambda m: dist.of_masks(m)(params, all_of(params), Fraction(1, 2)))(masks)
    empty = {**masks, "c": np.zeros((3, 4), bool)}
    with pytest.raises(ValueError, match="'c' keeps nothing"):
        dist.of_masks(jax.tree.map(jnp.asarray, empty))(params, all_of(params), Fraction(1, 2))


def test_sampled_masks_have_the_counts():
    masks = dist.sample(jax.random.key(0), PARAMS, MAY, (11, 4))
    assert (int(masks["a"].sum()), int(masks["c"].sum())) == (11, 4)
    assert (masks["a"].shape, masks["b"].shape, masks["c"].shape) == ((6, 5), (), (9,))
    assert bool(masks["b"])
    # JP-12: another seed, another mask; more entries keep those that were there
    other = dist.sample(jax.random.key(1), PARAMS, MAY, (11, 4))
    assert float(wj.mask_distance(masks, other)) > 0
    more = dist.sample(jax.random.key(0), PARAMS, MAY, (20, 5))
    assert bool(jnp.all(more["a"] | ~masks["a"]))


def test_bernoulli_masks_have_the_counts_on_average():
    draw = jax.jit(
        jax.vmap(lambda key: dist.sample(key, PARAMS, MAY, (12, 3), exact=False)["a"].sum())
    )
    counts = np.asarray(draw(jax.random.split(jax.random.key(0), 600)))
    assert counts.std() > 1  # FW-4
    assert abs(counts.mean() - 12) < 4.5 * np.sqrt(30 * 0.4 * 0.6 / 600)


def test_sample_refuses_counts_that_do_not_fit():
    with pytest.raises(ValueError, match="3 counts for 2 prunable leaves"):
        dist.sample(jax.random.key(0), PARAMS, MAY, (1, 2, 3))
    with pytest.raises(ValueError, match="10 entries of 'c' cannot be kept: it has 9"):
        dist.sample(jax.random.key(0), PARAMS, MAY, (1, 10))
