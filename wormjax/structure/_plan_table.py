"""A plan as rows, as text and as HTML."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from wormjax import _table

Loss = Literal["", "exact", "folded", "approximate"]
Native = Literal["", "yes", "replay only"]
Change = tuple[int, int]  # before and after


class PlanRow(NamedTuple):
    """What becomes of one group, or of the whole network.

    Attributes:
      group: its name; ``"total"`` for the network.
      units: before and after.
      parameters: of the leaves that the group lies on, before and after.
      macs: of the contractions that it takes part in, before and after.
      loss: what is lost with the removed units; empty where none goes.
      native: whether code that reads sizes off narrow arrays computes the same: ``"yes"``, ``"replay only"``,
        or empty where no unit goes.
      why: the reasons.
    """

    group: str
    units: Change
    parameters: Change
    macs: Change
    loss: Loss
    native: Native
    why: str

    def cells(self) -> tuple[str, ...]:
        """Return what a table shows."""
        return (
            self.group,
            _change(self.units),
            _change(self.parameters),
            _change(self.macs),
            self.loss or "whole",
            self.native,
            self.why,
        )


HEAD = ("group", "units", "parameters", "MACs", "loss", "native", "why")
_NUMBERS = range(1, 4)


def total(rows: Sequence[PlanRow], units: Change, parameters: Change, macs: Change) -> PlanRow:
    """Return the row of the whole network, which is as exact and as native as its worst group."""
    kinds: tuple[Loss, ...] = get_args(Loss)
    natives: tuple[Native, ...] = get_args(Native)
    loss = max((row.loss for row in rows), key=kinds.index, default=kinds[0])
    native = max((row.native for row in rows), key=natives.index, default=natives[0])
    return PlanRow("total", units, parameters, macs, loss, native, "")


def as_text(rows: Sequence[PlanRow], notes: Sequence[str]) -> str:
    """Return aligned lines, the notes below."""
    return _table.as_text(HEAD, [row.cells() for row in rows], _NUMBERS, notes)


def as_html(rows: Sequence[PlanRow], notes: Sequence[str]) -> str:
    """Return a ``<table>`` in a scrolling ``<div>``, as the reports have them; all text is escaped."""
    return _table.as_html("Plan", HEAD, [row.cells() for row in rows], _NUMBERS, notes)


def _change(values: Change) -> str:
    before, after = values
    return f"{before:,}" if before == after else f"{before:,} -> {after:,} ({after / before:.1%})"
