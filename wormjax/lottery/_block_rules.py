"""Which columns a group of rows shares: the rules that make one dense block of a group."""

from typing import Literal

import numpy as np
from jaxtyping import Int

from wormjax._selection import check_choice

BlockRule = Literal["clean", "clean_offset", "reference_stale", "reference_train", "top_t2"]
BLOCK_RULES = ("clean", "clean_offset", "reference_stale", "reference_train", "top_t2")


def column_order(counts: np.ndarray) -> Int[np.ndarray, " n"]:
    """Return a group's columns by how much it has in each, most first, the lower index first among equals."""
    return np.argsort(-counts.sum(axis=0), kind="stable")


def block_columns(
    counts: Int[np.ndarray, "rows n"],
    rule: BlockRule = "clean",
    t1: float = 1.5,
    *,
    t2: int = 0,
    taps: int = 1,
    order: Int[np.ndarray, " n"] | None = None,
) -> Int[np.ndarray, " width"] | None:
    r"""Return the columns of a group's block, or None where the rule finds none.

    ``clean`` takes the fewest p of the columns in order such that

    .. math:: p > t_1 \max_j \#\{\text{non-zeros of row } j \text{ outside the first } p \text{ columns}\}

    Args:
      counts: non-zeros of each row in each column: 0 or 1, or up to ``taps`` where a column is an input channel.
      rule: ``"clean"``; ``"clean_offset"``, the same with p - 1 on the left, which is the inequality of the code
        without its stale counters; ``"reference_stale"`` and ``"reference_train"``, the code's two routines, whose
        counters of later rows stand still when an earlier row rejects a column, the second of which also counts down
        by the column's place instead of the column; ``"top_t2"``, all columns with ``t2`` non-zeros.
      t1: the ratio.
      t2: for ``"top_t2"``.
      taps: non-zeros that one column can hold.
      order: the columns in order; by default `column_order`.

    Example:
      >>> rows = "0111000000 0101010011 1100010000 0110011001".split()
      >>> matrix = np.array([[int(c) for c in row] for row in rows])
      >>> [len(block_columns(matrix, rule)) for rule in ("clean", "clean_offset", "reference_stale")]
      [4, 5, 8]

    References:
      Chen et al., `Coarsening the Granularity: Towards Structurally Sparse Lottery Tickets
      <https://arxiv.org/abs/2202.04736>`_, 2022
    """
    check_choice("rule", rule, BLOCK_RULES)
    counts = np.asarray(counts)
    if rule == "top_t2":
        chosen = np.flatnonzero((counts > 0).sum(axis=0) >= t2)
        return chosen if len(chosen) else None
    columns = column_order(counts) if order is None else order
    if rule in ("reference_stale", "reference_train"):
        width = _with_stale_counters(counts, columns, t1, by_place=rule == "reference_train")
    else:
        outside = counts.sum(axis=1, keepdims=True) - np.cumsum(counts[:, columns], axis=1)
        p = np.arange(1, counts.shape[1] + 1) - (rule == "clean_offset")
        fits = p * taps > t1 * outside.max(axis=0)
        width = int(np.argmax(fits)) + 1 if fits.any() else None
    return None if width is None else columns[:width]


def _with_stale_counters(
    counts: np.ndarray, columns: np.ndarray, t1: float, *, by_place: bool
) -> int | None:
    """The width that the code finds. It looks at the rows in order and stops at the first that rejects a column."""
    left = counts.sum(axis=1).astype(np.int64)
    for i in range(1 if by_place else 0, counts.shape[1]):
        taken = counts[:, i if by_place else columns[i]]
        for j in range(len(counts)):
            left[j] -= taken[j]
            if i <= t1 * left[j]:
                break
        else:
            return i if by_place else i + 1
    return None
