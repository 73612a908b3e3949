"""Rows into groups of equal size that share columns."""

import importlib
from typing import Literal

import numpy as np
from jaxtyping import Int

from wormjax._selection import check_choice

Partitioner = Literal["jaccard", "mtkahypar", "random"]
PARTITIONERS = ("jaccard", "mtkahypar", "random")
_SWEEPS = 12


def partition(
    matrix: np.ndarray, parts: int, partitioner: Partitioner = "jaccard", seed: int = 0
) -> list[Int[np.ndarray, " _"]]:
    r"""Divide the rows of a matrix into groups whose rows have many columns in common.

    ``jaccard`` is a k-modes clustering with groups of equal size: rows go to the group g of the highest

    .. math:: \frac{\sum_n \min(m_{jn}, \bar m_{gn})}{\sum_n \max(m_{jn}, \bar m_{gn})}

    where :math:`\bar m_g` is the mean of its rows (for 0 and 1, that is :math:`m \cdot \bar m` over the rest), the row
    that would lose most by another choice first; the means are then taken anew. ``mtkahypar`` cuts the hypergraph whose
    nodes are rows and whose nets are columns into balanced blocks (10%). ``random`` is the control.

    Args:
      matrix: non-zeros by row and column; what is not zero counts as one.
      parts: how many groups; not more than there are rows.
      partitioner: one of the three.
      seed: the same one gives the same groups.

    Returns:
      Row indices of each group, rising, no group empty; the group with the lowest row first.

    Raises:
      ImportError: mtkahypar is asked for, and not installed.

    Example:
      >>> rows = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 0, 1], [0, 1, 1, 1]])
      >>> partition(rows, 2)
      [array([0, 2]), array([1, 3])]
    """
    check_choice("partitioner", partitioner, PARTITIONERS)
    filled = np.asarray(matrix) != 0
    parts = max(1, min(parts, len(filled)))
    if parts == 1:
        return [np.arange(len(filled))]
    if partitioner == "mtkahypar":
        groups = _by_mtkahypar(filled, parts, seed)
    elif partitioner == "random":
        order = np.random.default_rng(seed).permutation(len(filled))
        groups = np.arange(len(filled))[np.argsort(order)] % parts
    else:
        groups = _by_jaccard(filled.astype(np.float32), parts, np.random.default_rng(seed))
    found = [np.flatnonzero(groups == g) for g in range(parts)]
    return sorted((rows for rows in found if len(rows)), key=lambda rows: int(rows[0]))


def _by_jaccard(filled: np.ndarray, parts: int, rng: np.random.Generator) -> np.ndarray:
    sizes = filled.sum(axis=1)
    # rows that have little in common may be outliers; rows at random are typical: the better of both beginnings
    starts = [_spread(filled, sizes, parts, rng), rng.choice(len(filled), parts, replace=False)]
    found = [_cluster(filled, sizes, filled[np.asarray(start)], parts) for start in starts]
    likeness = [alike for alike, _ in found]
    return found[likeness.index(max(likeness))][1]


def _cluster(
    filled: np.ndarray, sizes: np.ndarray, means: np.ndarray, parts: int
) -> tuple[float, np.ndarray]:
    """How alike rows are to the means of their groups in all, and the groups."""
    best: tuple[float, np.ndarray] | None = None
    before = None
    for _ in range(_SWEEPS):
        both = filled @ means.T  # of 0 and 1 with a mean, the sum of minima is the product
        alike = both / np.maximum(sizes[:, None] + means.sum(axis=1) - both, 1e-6)
        groups = _balanced(alike, parts)
        total = float(alike[np.arange(len(groups)), groups].sum())
        if best is None or total > best[0]:
            best = total, groups
        if before is not None and np.array_equal(before, groups):
            break
        before = groups
        means = np.stack([filled[groups == g].mean(axis=0) for g in range(parts)])
    assert best is not None
    return best


def _spread(
    filled: np.ndarray, sizes: np.ndarray, parts: int, rng: np.random.Generator
) -> list[int]:
    """Rows that have little in common: each one is the least alike to those before."""
    chosen = [int(rng.integers(len(filled)))]
    nearest = np.zeros(len(filled))
    for _ in range(parts - 1):
        both = filled @ filled[chosen[-1]]
        alike = both / np.maximum(sizes + sizes[chosen[-1]] - both, 1)
        nearest = np.maximum(nearest, alike)
        nearest[chosen] = np.inf
        chosen.append(int(np.argmin(nearest)))
    return chosen


def _balanced(alike: np.ndarray, parts: int) -> np.ndarray:
    """Each row to its best group that has room, whoever would lose most by another choice first."""
    room = np.full(parts, len(alike) // parts)
    room[: len(alike) % parts] += 1
    ranked = np.sort(alike, axis=1)
    order = np.argsort(ranked[:, -2] - ranked[:, -1], kind="stable")
    wishes = np.argsort(-alike, axis=1, kind="stable")
    groups = np.zeros(len(alike), np.int64)
    for row in order:
        group = next(g for g in wishes[row] if room[g])
        groups[row] = group
        room[group] -= 1
    return groups


def _by_mtkahypar(filled: np.ndarray, parts: int, seed: int) -> np.ndarray:
    try:
        mtkahypar = importlib.import_module("mtkahypar")
    except ImportError:
        raise ImportError(
            "partitioner='mtkahypar' needs the package mtkahypar: pip install mtkahypar. The default, 'jaccard', needs "
            "none."
        ) from None
    nets = [np.flatnonzero(column).tolist() for column in filled.T]
    nets = [net for net in nets if len(net) > 1]
    machine = mtkahypar.initialize(
        1, False
    )  # one thread gives the same cut each time, and needs no slow preset
    context = machine.context_from_preset(mtkahypar.PresetType.DEFAULT)
    context.set_partitioning_parameters(parts, 0.1, mtkahypar.Objective.KM1)
    context.logging = False
    mtkahypar.set_seed(seed)
    graph = machine.create_hypergraph(context, len(filled), len(nets), nets)
    found = graph.partition(context)
    return np.array([found.block_id(node) for node in range(len(filled))])
