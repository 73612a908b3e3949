"""Regroup of one matrix: rows into groups, a dense block for each, and what becomes of those that have none."""

import dataclasses
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from wormjax._selection import check_choice
from wormjax.lottery._block_rules import BLOCK_RULES, BlockRule, block_columns
from wormjax.lottery._blocks import Block, Form, Granularity
from wormjax.lottery._partition import PARTITIONERS, Partitioner, partition

NoBlock = Literal["whole_block", "dense", "unstructured"]


@dataclasses.dataclass(frozen=True)
class RegroupSettings:
    """How `regroup` makes blocks.

    Attributes:
      rule: which columns a group takes, see `block_columns`.
      granularity: a column is an input channel with all places of the window, or a single weight of it. Only the first
        runs as dense convolutions.
      parts: row groups of a layer; None for one for each 32 output channels, at most 8.
      t1: the ratio of the rule.
      t2: non-zeros that make a column, for ``"top_t2"``.
      min_rows: rows that a group needs for a block.
      min_columns: columns that a block needs.
      no_block: of a layer without any block: ``"whole_block"`` (its non-empty rows by its non-empty columns),
        ``"dense"``, or ``"unstructured"``, which keeps the mask and runs dense.
      drop_groups: zero a group that has no block where others have one; otherwise it becomes a block of all its
        non-empty columns.
      row_split: cut blocks of more rows after the last multiple of this; 0 for never.
      partitioner: ``"jaccard"``, ``"mtkahypar"`` (to be installed), or ``"random"``, the control.

    Raises:
      ValueError: a value out of range, or ``"top_t2"`` without its three numbers.
    """

    rule: BlockRule = "clean"
    granularity: Granularity = "input_channel"
    parts: int | None = None
    t1: float = 1.5
    t2: int = 0
    min_rows: int = 1
    min_columns: int = 1
    no_block: NoBlock = "whole_block"
    drop_groups: bool = False
    row_split: int = 0
    partitioner: Partitioner = "jaccard"

    def __post_init__(self) -> None:
        check_choice("rule", self.rule, BLOCK_RULES)
        check_choice("granularity", self.granularity, ("input_channel", "element"))
        check_choice("no_block", self.no_block, ("whole_block", "dense", "unstructured"))
        check_choice("partitioner", self.partitioner, PARTITIONERS)
        for name in ("min_rows", "min_columns"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.parts is not None and self.parts < 1:
            raise ValueError(f"parts={self.parts} must be at least 1, or None.")
        if self.t1 <= 0 or self.row_split < 0:
            raise ValueError("t1 must be positive, and row_split not negative.")
        if self.rule == "top_t2" and self.t2 < 1:
            raise ValueError(
                "rule='top_t2' needs t2=, and should have min_rows= (the paper's b1), min_columns= (b2) and parts= "
                "(t1): the paper publishes none of them."
            )

    def parts_of(self, rows: int) -> int:
        """Row groups of a layer with so many output channels."""
        return max(1, min(8, rows // 32)) if self.parts is None else self.parts


REGROUP = RegroupSettings()
# The constants of the public code; its own partitioner is a closed binary, and mtkahypar stands for it.
REGROUP_REFERENCE = RegroupSettings(
    rule="reference_train",
    granularity="element",
    parts=8,
    min_rows=17,
    no_block="unstructured",
    drop_groups=True,
    row_split=32,
)


class MatrixBlocks(NamedTuple):
    """What became of one matrix.

    Attributes:
      form: see `LayerBlocks`.
      blocks: row-disjoint.
      groups: rows of each group that the partition made.
      fallback: groups without a block of their own, which got one of all their columns.
      dropped: rows that had weights and are in no block.
      empty: rows that had none.
    """

    form: Form
    blocks: tuple[Block, ...]
    groups: tuple[int, ...]
    fallback: int
    dropped: int
    empty: int


def regroup_matrix(
    counts: Int[np.ndarray, "rows columns"],
    settings: RegroupSettings = REGROUP,
    *,
    taps: int = 1,
    magnitudes: np.ndarray | None = None,
    seed: int = 0,
) -> MatrixBlocks:
    """Make row blocks of a matrix of non-zeros.

    Args:
      counts: 0 or 1; or how many of ``taps`` weights are non-zero.
      settings: how.
      taps: weights in a column.
      magnitudes: of the weights, summed by column; columns are then taken in their order instead of by counts.
      seed: of the partition.

    Raises:
      ValueError: nothing is non-zero.

    Example:
      >>> rows = "0111000000 0101010011 1100010000 0110011001".split()
      >>> found = regroup_matrix(np.array([[int(c) for c in row] for row in rows]))
      >>> found.blocks[0].rows, found.blocks[0].columns
      (array([0, 1, 2, 3]), array([1, 2, 3, 5]))
    """
    counts = np.asarray(counts)
    rows, columns = np.flatnonzero(counts.any(axis=1)), np.flatnonzero(counts.any(axis=0))
    if not len(rows):
        raise ValueError("Nothing is non-zero: an empty layer has no blocks.")
    empty = len(counts) - len(rows)
    filled = counts[np.ix_(rows, columns)]
    weights = None if magnitudes is None else np.asarray(magnitudes)[np.ix_(rows, columns)]
    groups = partition(filled, settings.parts_of(len(counts)), settings.partitioner, seed)
    groups.sort(key=len, reverse=True)
    found: list[Block | None] = []
    for group in groups:
        chosen = None
        if len(group) >= settings.min_rows:
            order = None
            if weights is not None:
                order = np.argsort(-weights[group].sum(axis=0), kind="stable")
            chosen = block_columns(
                filled[group], settings.rule, settings.t1, t2=settings.t2, taps=taps, order=order
            )
        if chosen is None or len(chosen) < settings.min_columns:
            found.append(None)
        else:
            found.append(Block(rows[group], np.sort(columns[chosen])))
    sizes = tuple(map(len, groups))
    if not any(found):
        whole = () if settings.no_block != "whole_block" else (Block(rows, columns),)
        return MatrixBlocks(settings.no_block, whole, sizes, len(groups), 0, empty)
    blocks: list[Block] = []
    fallback = dropped = 0
    for group, block in zip(groups, found, strict=True):
        if block is not None:
            blocks += _split(block, settings.row_split)
        elif settings.drop_groups:
            dropped += len(group)
        else:
            fallback += 1
            blocks.append(Block(rows[group], columns[filled[group].any(axis=0)]))
    return MatrixBlocks("blocks", tuple(blocks), sizes, fallback, dropped, empty)


def _split(block: Block, rows: int) -> list[Block]:
    """Cut a block after the last multiple of so many rows, as the code does for its kernel."""
    if not rows or len(block.rows) <= rows:
        return [block]
    at = len(block.rows) // rows * rows
    parts = [Block(block.rows[:at], block.columns), Block(block.rows[at:], block.columns)]
    return [part for part in parts if len(part.rows)]
