"""A plan as rows, as text and as HTML."""

from collections.abc import Sequence
from html import escape
from typing import Literal, NamedTuple, get_args

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
    table = [HEAD, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(w) if k in _NUMBERS else cell.ljust(w)
            for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
    return "\n".join([*lines, *notes])


def as_html(rows: Sequence[PlanRow], notes: Sequence[str]) -> str:
    """Return a ``<table>`` in a scrolling ``<div>``, as the reports have them; all text is escaped."""

    def cell(k: int, text: str) -> str:
        return f"<td{_css_class(k)}>{escape(text)}</td>"

    head = "".join(f'<th scope="col"{_css_class(k)}>{title}</th>' for k, title in enumerate(HEAD))
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(cell(k, text) for k, text in enumerate(rest, start=1))
        + "</tr>"
        for first, *rest in (row.cells() for row in rows)
    )
    foot = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    return (
        f'<div class="table"><table><caption>Plan</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{foot}"
    )


def _css_class(column: int) -> str:
    return ' class="number"' if column in _NUMBERS else ""


def _change(values: Change) -> str:
    before, after = values
    return f"{before:,}" if before == after else f"{before:,} -> {after:,} ({after / before:.1%})"
