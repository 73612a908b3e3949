"""Splits: disjoint, exhaustive, stratified within the documented bound, the same for ever."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import partition, stratified_order

LABELS = st.lists(st.integers(0, 4), min_size=3, max_size=80).map(lambda x: np.array(x, np.int64))
SEEDS = st.integers(0, 2**32)
PINNED = {0: [11, 3, 1, 2, 6, 7, 8, 0, 4, 10, 5, 9], 1: [9, 2, 4, 7, 5, 0, 11, 10, 6, 8, 3, 1]}


def counts(labels):
    return np.bincount(labels, minlength=5)


@given(LABELS, SEEDS)
def test_order_is_a_permutation_with_classes_in_proportion_in_every_prefix(labels, seed):
    order = stratified_order(labels, seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    total, classes = counts(labels), len(set(labels.tolist()))
    for m in range(len(labels) + 1):
        excess = np.abs(counts(labels[order[:m]]) - m * total / len(labels))
        assert (excess <= 0.5 + classes * total / (2 * len(labels)) + 1e-9).all()


@given(LABELS, SEEDS, st.data())
def test_parts_are_disjoint_exhaustive_and_stratified(labels, seed, data):
    n = len(labels)
    first = data.draw(st.integers(1, n - 2))
    second = data.draw(st.integers(1, n - 1 - first))
    sizes = (first, second, n - first - second)
    parts = partition(labels, sizes, seed)
    assert tuple(map(len, parts)) == sizes
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    classes = len(set(labels.tolist()))
    for part in parts:
        assert (np.diff(part) > 0).all()
        excess = np.abs(counts(labels[part]) - len(part) * counts(labels) / n)
        assert (excess <= 1 + classes * counts(labels) / n + 1e-9).all()


@given(LABELS, SEEDS, st.integers(1, 40), st.integers(0, 40))
def test_limits_are_nested_and_never_move_a_row_between_splits(labels, seed, small, more):
    sizes = (len(labels) - 2, 2)
    whole = partition(labels, sizes, seed)
    large = partition(labels, sizes, seed, limit=small + more)
    few = partition(labels, sizes, seed, limit=small)
    for a, b, c, size in zip(few, large, whole, sizes, strict=True):
        assert len(a) == min(small, size)
        assert set(a.tolist()) <= set(b.tolist()) <= set(c.tolist())


def test_balanced_classes_split_exactly():
    labels = np.arange(600) % 10
    train, validation = partition(labels, (540, 60), seed=3)
    assert np.bincount(labels[train]).tolist() == [54] * 10
    assert np.bincount(labels[validation]).tolist() == [6] * 10
    (few, _) = partition(labels, (540, 60), seed=3, limit=20)
    assert np.bincount(labels[few]).tolist() == [2] * 10


def test_a_seed_names_the_same_split_in_every_version():
    labels = np.array([0, 1, 2] * 4)
    # Changing these numbers changes every published split: do not.
    assert stratified_order(labels, 0).tolist() == PINNED[0]
    assert stratified_order(labels, 1).tolist() == PINNED[1]


def test_rows_are_drawn_evenly():
    """Every row is as likely as any other to be held out, also with unequal classes."""
    labels = np.array([0] * 6 + [1] * 3 + [2] * 3)
    held = np.zeros(12)
    for seed in range(3000):
        held[partition(labels, (8, 4), seed)[1]] += 1
    # 4 of 12 rows, 3,000 draws: 1,000 expected, standard deviation 26.
    assert np.abs(held - 1000).max() < 4.5 * 26


@pytest.mark.parametrize("sizes", [(12, 0), (8, 8), (-1, 13), (5, 5)])
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(ValueError, match=r"cannot deal 12 rows out to splits of .* add up to 12"):
        partition(np.zeros(12, np.int64), sizes, seed=0)


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="limit=0 leaves no rows; pass at least 1"):
        partition(np.zeros(12, np.int64), (6, 6), seed=0, limit=0)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="split seed -1 is negative"):
        stratified_order(np.zeros(12, np.int64), -1)
