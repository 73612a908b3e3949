"""Early-Bird's protective masks, against lists and sorts."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wormjax as wj
from wormjax._protective import protective


def by_sorting(layers, ratio):
    """The specification's words, with the corrected index; and how many entries were pooled."""
    protected, pool = [], []
    for layer in layers:
        cut = sorted(layer)[len(layer) * 9 // 10]
        protected.append([x > cut for x in layer])
        pool += [x for x in layer if not x > cut]
    threshold = sorted(pool)[len(pool) * ratio.numerator // ratio.denominator]
    masks = [
        [kept or x > threshold for x, kept in zip(layer, keeps, strict=True)]
        for layer, keeps in zip(layers, protected, strict=True)
    ]
    return masks, len(pool)


masks_of_three = jax.jit(lambda layers, ratio: protective(layers, ratio), static_argnums=1)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 30), min_size=37, max_size=37))
def test_masks_are_those_of_sorting_with_ties(values):
    layers = [values[:3], values[3:16], values[16:]]
    scores = [jnp.asarray(np.array(x, np.float32)) for x in layers]
    found = masks_of_three(scores, Fraction(7, 10))
    expected, _ = by_sorting(layers, Fraction(7, 10))
    assert [m.tolist() for m in found] == expected


@pytest.mark.parametrize("ratio", ["0.9", "0.99"])
def test_eb_d11_the_pool_has_its_own_index(ratio):
    """Near 0.9 the index of the reference, into all entries, passes the pool."""
    sizes = (64, 128, 10)
    values = np.random.default_rng(0).permutation(sum(sizes)).astype(np.float32)
    parts = dict(zip("abc", np.split(values, np.cumsum(sizes)[:-1]), strict=True))
    params = {k: {"scale": jnp.asarray(v)} for k, v in parts.items()}
    detector = wj.early_bird(lambda p: p, ratio, window=2, mask_rule="protective")
    newest = detector.update(params, detector.init(params)).newest
    masks, pool = by_sorting([v.tolist() for v in parts.values()], Fraction(ratio))
    assert [m.tolist() for m in jax.tree.leaves(newest)] == masks
    assert pool == sum(n * 9 // 10 + 1 for n in sizes)
    pruned = sum(sizes) - sum(int(m.sum()) for m in jax.tree.leaves(newest))
    assert pruned == int(pool * Fraction(ratio)) + 1
    if ratio == "0.99":
        assert int(sum(sizes) * Fraction(ratio)) >= pool


def test_equal_scales_protect_nothing_and_are_degenerate():
    params = {"scale": jnp.ones(20)}
    detector = wj.early_bird(lambda p: p, 0.5, window=2, mask_rule="protective")
    state = detector.update(params, detector.init(params))
    assert bool(state.degenerate)
    assert int(state.newest["scale"].sum()) == 0


def test_a_ratio_of_many_digits_is_refused():
    with pytest.raises(
        ValueError, match="a denominator up to 65535, such as decimals of four digits"
    ):
        wj.early_bird(wj.scores.norm_scale, 0.1234567, mask_rule="protective")
