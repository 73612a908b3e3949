"""Removed sets and Jaccard indices against NumPy."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wormjax as wj
from wormjax.dst import analysis

SHAPES = {"a": (6, 7), "c": (25,)}
NEVER = {"b": jnp.array(True)}
never = {"b": jnp.array(jnp.inf)}


def _state(seed, levels=None):
    """Masks, and scores of two criteria; few levels make ties."""
    random = np.random.default_rng(seed)
    masks = {n: random.random(s) < 0.7 for n, s in SHAPES.items()}
    scores = [
        {n: random.standard_normal(s).astype(np.float32) for n, s in SHAPES.items()}
        for _ in range(2)
    ]
    if levels:
        scores = [
            {n: np.round(x * levels) / np.float32(levels) for n, x in s.items()} for s in scores
        ]
    return masks, scores


def _removed(masks, scores, p, scope):
    """Sort active entries by score, ties by descending index, and take the first ceil(p n)."""
    names = list(masks)
    groups = [[n] for n in names] if scope == "leaf" else [names]
    removed = {n: np.zeros(masks[n].shape, bool) for n in names}
    for group in groups:
        entries = [
            (scores[n].ravel()[i], -g, -i, n)
            for g, n in enumerate(group)
            for i in np.flatnonzero(masks[n].ravel())
        ]
        for _, _, i, n in sorted(entries)[: math.ceil(p * len(entries))]:
            removed[n].ravel()[-i] = True
    return removed


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(["1/2", "1/4", "0.05", "0.3"]),
    st.sampled_from(["leaf", "global"]),
    st.sampled_from([None, 2]),
)
def test_the_lowest_active_scores_are_removed(seed, p, scope, levels):
    masks, scores = _state(seed, levels)
    by_name = {f"s{i}": {**s, **never} for i, s in enumerate(scores)}
    found = analysis.removed_sets(by_name, {**masks, **NEVER}, Fraction(p), scope)
    for i, s in enumerate(scores):
        expected = _removed(masks, s, Fraction(p), scope)
        for name in SHAPES:
            np.testing.assert_array_equal(found[f"s{i}"][name], expected[name])
        assert found[f"s{i}"]["b"].shape == ()
        assert not bool(found[f"s{i}"]["b"])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_matrix_agrees_with_sets(seed):
    random = np.random.default_rng(seed)
    p = random.choice([0.0, 0.2, 0.9])
    sets = {name: {n: random.random(s) < p for n, s in SHAPES.items()} for name in "xyz"}
    found = analysis.jaccard_matrix(sets)
    assert found.names == ("x", "y", "z")
    for i, a in enumerate(sets.values()):
        for j, b in enumerate(sets.values()):
            both = {n: int((a[n] & b[n]).sum()) for n in SHAPES}
            either = {n: int((a[n] | b[n]).sum()) for n in SHAPES}
            for n in SHAPES:
                expected = both[n] / either[n] if either[n] else 1.0
                assert abs(float(found.leaves[n][i, j]) - expected) < 1e-6
            union = sum(either.values())
            expected = sum(both.values()) / union if union else 1.0
            assert abs(float(found.total[i, j]) - expected) < 1e-6


def test_snip_and_taylor_rank_alike_and_unrelated_criteria_meet_by_chance():
    random = np.random.default_rng(0)
    n = 16_000
    w, g = random.standard_normal((2, n)).astype(np.float32)
    noise = random.random((2, n)).astype(np.float32)
    scores = {
        "snip": {"w": np.abs(w * g)},
        "taylor": {"w": (w * g) ** 2},
        "random1": {"w": noise[0]},
        "random2": {"w": noise[1]},
    }
    for p in (Fraction(1, 2), Fraction(1, 16)):
        removed = analysis.removed_sets(scores, {"w": np.ones(n, bool)}, p)
        assert {int(r["w"].sum()) for r in removed.values()} == {int(p * n)}
        index = np.asarray(analysis.jaccard_matrix(removed).total)
        assert index[0, 1] == 1.0
        assert (np.diag(index) == 1.0).all()
        chance = analysis.chance_jaccard(p)
        assert abs(chance - float(p) / (2 - float(p))) < 1e-12
        # the intersection is hypergeometric: a deviation of 4.5 in it moves the index by less than twice as much
        deviation = np.sqrt(n * float(p) ** 2 * (1 - float(p)) ** 2) / (n * float(p))
        assert abs(index[2, 3] - chance) < 4.5 * deviation


def test_overlap_knows_chance_under_layer_densities():
    random = np.random.default_rng(1)
    first = {"a": random.random((60, 70)) < 0.5, "c": random.random(2500) < 0.1, **NEVER}
    drawn = wj.random_like(jax.random.key(0), jax.tree.map(jnp.asarray, first))
    found = analysis.overlap(jax.tree.map(jnp.asarray, first), drawn)
    a, c = int(first["a"].sum()), int(first["c"].sum())
    both = a * a / 4200 + c * c / 2500
    assert abs(float(found.chance) - both / (2 * a + 2 * c - both)) < 1e-6
    assert abs(float(found.total) - float(found.chance)) < 0.05
    assert set(found.leaves) == {"a", "c"}
    same = analysis.overlap(drawn, drawn)
    assert float(same.total) == 1.0
    steps = analysis.step_to_step([drawn, drawn, jax.tree.map(jnp.asarray, first)])
    assert [float(s.total) for s in steps] == [1.0, float(found.total)]


def test_wrong_input_gets_its_sentence():
    masks = {"w": jnp.ones(4, bool)}
    with pytest.raises(ValueError, match="fraction must lie strictly between 0 and 1, got 50"):
        analysis.removed_sets({"m": {"w": jnp.ones(4)}}, masks, 50.0)
    with pytest.raises(ValueError, match="too long for exact 32-bit counts"):
        analysis.removed_sets({"m": {"w": jnp.ones(4)}}, masks, 0.1234567)
    with pytest.raises(
        ValueError, match=r"score of 'm' at 'w' has shape \(3,\) and the mask \(4,\)"
    ):
        analysis.removed_sets({"m": {"w": jnp.ones(3)}}, masks, 0.5)
    with pytest.raises(ValueError, match="no prunable leaf"):
        analysis.removed_sets({"m": {"w": jnp.ones(3)}}, {"w": jnp.array(True)}, 0.5)
    with pytest.raises(ValueError, match="no set to compare"):
        analysis.jaccard_matrix({})
    with pytest.raises(ValueError, match="'b' has leaves of other shapes"):
        analysis.jaccard_matrix({"a": masks, "b": {"w": jnp.ones(3, bool)}})
    with pytest.raises(ValueError, match=r"fraction must lie in \[0, 1\]"):
        analysis.chance_jaccard(2.0)
