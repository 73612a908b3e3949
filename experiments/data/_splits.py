"""Dealing the rows of a labelled collection out to splits: disjoint, stratified, reproducible."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def stratified_order(labels: Int[np.ndarray, " n"], seed: int) -> Int[np.ndarray, " n"]:
    r"""A random order of all rows in which every stretch holds the classes in proportion.

    The r-th drawn of the :math:`n_c` rows of class c (r from 0) is placed at the fraction

    .. math::  (r + 1/2) / n_c

    of the order. So the first m of N rows hold :math:`m n_c / N` rows of class c, give or take
    :math:`1/2 + C n_c / 2N` for C classes. Ties keep the random order.

    The draw uses the raw stream of PCG64, which NumPy promises never to change (its
    `Generator.permutation` may), so a seed names the same split in every version.

    Args:
      labels: ``[N]``, the class of each row.
      seed: not negative.

    Returns:
      int64 ``[N]``, a permutation of the rows.

    Raises:
      ValueError: the seed is negative.

    Example:
      >>> labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
      >>> labels[stratified_order(labels, seed=0)].reshape(4, 2).sum(axis=1)
      array([1, 1, 1, 1])
    """
    if seed < 0:
        raise ValueError(f"split seed {seed} is negative; pass 0 or a positive integer.")
    drawn = np.argsort(np.random.PCG64(seed).random_raw(len(labels)), kind="stable")
    _, classes, counts = np.unique(labels[drawn], return_inverse=True, return_counts=True)
    starts = np.cumsum(counts) - counts
    ranks = np.empty(len(labels), np.int64)
    ranks[np.argsort(classes, kind="stable")] = np.arange(len(labels)) - np.repeat(starts, counts)
    return drawn[np.argsort((ranks + 0.5) / counts[classes], kind="stable")]


def partition(
    labels: Int[np.ndarray, " n"], sizes: Sequence[int], seed: int, *, limit: int | None = None
) -> tuple[Int[np.ndarray, " size"], ...]:
    """Deal all rows out to disjoint splits of the given sizes, each with the classes in proportion.

    Args:
      labels: ``[N]``, the class of each row.
      sizes: rows for each split; together exactly N.
      seed: names the draw; not negative.
      limit: keep at most this many rows of each split, still in proportion. A smaller limit keeps
        a subset of what a larger one keeps, and the splits stay those of the same seed.

    Returns:
      For each split the rows it holds, int64, in increasing order.

    Raises:
      ValueError: a size or the limit is below 1, or the sizes do not add up to N.

    Example:
      >>> train, validation = partition(np.array([0, 1, 0, 1, 0, 1]), (4, 2), seed=0)
      >>> sorted([*train.tolist(), *validation.tolist()])
      [0, 1, 2, 3, 4, 5]
    """
    if min(sizes) < 1 or sum(sizes) != len(labels):
        raise ValueError(
            f"cannot deal {len(labels)} rows out to splits of {', '.join(map(str, sizes))}: every "
            f"split needs a row, and the sizes must add up to {len(labels)}. Choose smaller "
            "validation and test splits."
        )
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} leaves no rows; pass at least 1, or None for all rows.")
    blocks = np.split(stratified_order(labels, seed), np.cumsum(sizes)[:-1])
    return tuple(np.sort(block[:limit]) for block in blocks)
