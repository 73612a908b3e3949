"""Counts of the papers' networks under exact selection (oracles O-M1 to O-M5 of the Early-Bird spec).

The reference keeps what exceeds the value at ascending position int(N * p): in our terms, ties="strict" with
N - int(N * p) kept.
"""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj
from wormjax._selection import largest


@jax.jit
def strictly_largest(leaves, kept):
    return largest(leaves, kept, "strict")


def _reference_pruned(scores, p: float) -> int:
    n = sum(x.size for x in scores)
    masks = strictly_largest(scores, jnp.int32(n - int(n * p)))
    return n - sum(int(m.sum()) for m in masks)


def _distinct(widths: list[int]) -> list[jax.Array]:
    values = np.random.default_rng(0).permutation(sum(widths)).astype(np.float32)
    return [jnp.asarray(v) for v in np.split(values, np.cumsum(widths)[:-1])]


VGG16 = [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6


VGG11 = [64, 128, 256, 256, 512, 512, 512, 512]


RESNET18 = [64] * 5 + [128] * 5 + [256] * 5 + [512] * 5


PRERESNET101 = [
    width
    for planes, entry in ((16, 16), (32, 64), (64, 128))
    for block in range(11)
    for width in (entry if block == 0 else 4 * planes, planes, planes)
] + [256]


@pytest.mark.parametrize(
    ("widths", "layers", "total"),
    [(VGG16, 13, 4224), (VGG11, 8, 2752), (RESNET18, 20, 4800), (PRERESNET101, 100, 7408)],
)
def test_o_m1_entries_of_the_papers_networks(widths, layers, total):
    params = [jnp.ones(w) for w in widths]
    masks = [jnp.ones(w, bool) for w in widths]
    assert len(masks) == layers
    kept, n = wj.count_kept(masks, params)
    assert (int(kept), n) == (total, total)


@pytest.mark.parametrize(
    ("widths", "pruned"),
    [
        (
            VGG16,
            {0.1: 423, 0.2: 845, 0.3: 1268, 0.4: 1690, 0.5: 2113, 0.6: 2535, 0.7: 2957, 0.8: 3380},
        ),
        (VGG11, {0.5: 1377}),
        (RESNET18, {0.1: 481, 0.3: 1441, 0.5: 2401}),
        (PRERESNET101, {0.3: 2223, 0.5: 3705, 0.7: 5186}),
    ],
    ids=["vgg16", "vgg11", "resnet18", "preresnet101"],
)
def test_o_m2_reference_rule_prunes_one_more_than_k(widths, pruned):
    # one leaf: the counts are of the whole tree, and thirteen leaves only compile longer
    scores = [jnp.concatenate(_distinct(widths))]
    assert {p: _reference_pruned(scores, p) for p in pruned} == pruned


def test_o_m1_o_m2_bert_query_and_key():
    # 12 layers of 768 x 768 queries and keys; bit patterns in order are distinct floats in order
    n = 12 * 2 * 768 * 768
    assert n == 14_155_776
    scores = [jnp.asarray(np.arange(1, n + 1, dtype=np.uint32).view(np.float32))]
    assert _reference_pruned(scores, 0.5) == 7_077_889


@pytest.mark.parametrize(("p", "pruned"), [(0.1, 3), (0.2, 3), (0.3, 4), (0.5, 6)])
def test_o_m3_reference_rule_prunes_all_of_a_tie(p, pruned):
    scores = [jnp.array([0.1, 0.2, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])]
    assert _reference_pruned(scores, p) == pruned
    masks = wj.top_masks(scores, density=1 - Fraction(str(p)), ties="strict")
    assert 10 - int(masks[0].sum()) == pruned


@pytest.mark.parametrize("p", [0.3, 0.5, 0.7])
def test_o_m4_equal_scales_give_the_empty_mask(p):
    assert _reference_pruned([jnp.full(64, 0.5), jnp.full(32, 0.5)], p) == 96


@pytest.mark.parametrize("scores", ["ties", "equal", "distinct"])
def test_o_m5_exact_rule_prunes_exactly_k(scores):
    values = {
        "ties": np.random.default_rng(0).integers(0, 3, 200),
        "equal": np.ones(200),
        "distinct": np.random.default_rng(0).permutation(200),
    }[scores]
    leaf = jnp.asarray(values, jnp.float32)
    for p in (0.1, 0.29, 0.5):
        mask = wj.top_masks([leaf], density=1 - Fraction(str(p)))[0]
        assert 200 - int(mask.sum()) == Fraction(str(p)) * 200
