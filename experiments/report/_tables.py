"""One table value, four renderings: terminal (rich), plain text, Markdown and HTML."""

import dataclasses
import io
from collections.abc import Sequence
from html import escape
from typing import Any, Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group
from rich.table import Table as RichTable
from rich.text import Text

from experiments.report._stats import Censored, Paired, Summary

# A tuple is one cell of several lines, such as a mean and under it the difference to a reference.
Cell = str | int | float | bool | Censored | Summary | Paired | tuple[Any, ...] | None


@dataclasses.dataclass(frozen=True)
class Column:
    """What stands over a column.

    Attributes:
      title: the column's name.
      unit: its unit, shown in brackets after the title; empty where it has none.
      spec: format of its numbers, as in ``format(value, spec)``.
      note: one sentence for the foot of the table.
      align: "left" or "right"; None puts text left and numbers right.
    """

    title: str
    unit: str = ""
    spec: str = ".4g"
    note: str = ""
    align: Literal["left", "right"] | None = None

    @property
    def heading(self) -> str:
        """The title with its unit."""
        return f"{self.title} [{self.unit}]" if self.unit else self.title


@dataclasses.dataclass(frozen=True)
class Table:
    """A title, columns and rows; the first column names the row.

    Attributes:
      title: the caption.
      columns: one ``Column`` each.
      rows: cells in the columns' order. A cell is text, a number, ``Summary``, ``Paired``,
        ``Censored``, None (shown as a dash), or a tuple of these, one line each.
      notes: sentences for the foot, before those of the columns.

    Raises:
      ValueError: a row has another number of cells than there are columns.

    Example:
      >>> sizes = Table("Sizes", (Column("layer"), Column("kept", "channels")), (("conv1", 7),))
      >>> print(sizes.markdown())
      **Sizes**
      <BLANKLINE>
      | layer | kept [channels] |
      |:---|---:|
      | conv1 | 7 |
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for place, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"row {place} of the table {self.title!r} has {len(row)} cells for "
                    f"{len(self.columns)} columns; give one cell per column, None for an empty one."
                )

    def rich(self, width: int | None = None) -> Group:
        """Return a renderable for a rich console; columns beyond ``width`` continue below."""
        parts: list[Any] = [Text(self.title, style="bold")]
        for block in self._blocks(width):
            parts.append(Text())
            grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
            for place in block:
                left = place == 0 or self._is_left(place)
                heading = Text(self.columns[place].heading)
                grid.add_column(heading, justify="left" if left else "right", overflow="fold")
            for row in self._lines():
                grid.add_row(*(Text("\n".join(row[place])) for place in block))
            parts.append(grid)
        notes = self._all_notes()
        parts += [Text(), *(Text(note, style="dim") for note in notes)] if notes else []
        return Group(*parts)

    def text(self, width: int = 100) -> str:
        """Return plain text at most ``width`` characters wide where its cells allow it."""
        stream = io.StringIO()
        console = Console(file=stream, width=width, color_system=None, force_terminal=False)
        console.print(self.rich(width))
        return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())

    def markdown(self) -> str:
        """Return a GitHub-flavoured Markdown table with its title and notes."""
        cells = [["<br>".join(map(_markdown, lines)) for lines in row] for row in self._lines()]
        rules = [":---" if i == 0 or self._is_left(i) else "---:" for i in range(len(self.columns))]
        lines = [
            f"**{_markdown(self.title)}**",
            "",
            f"| {' | '.join(_markdown(column.heading) for column in self.columns)} |",
            f"|{'|'.join(rules)}|",
            *(f"| {' | '.join(row)} |" for row in cells),
        ]
        for note in self._all_notes():
            lines += ["", _markdown(note)]
        return "\n".join(lines)

    def html(self) -> str:
        """Return a ``<table>`` in a scrolling ``<div>``, all text escaped."""
        head = "".join(
            f'<th scope="col"{self._class(i)}>{escape(column.title)}'
            + (f' <span class="unit">[{escape(column.unit)}]</span>' if column.unit else "")
            + "</th>"
            for i, column in enumerate(self.columns)
        )
        body = []
        for row in self._lines():
            first, *rest = (_html_lines(lines) for lines in row)
            cells = "".join(f"<td{self._class(i)}>{c}</td>" for i, c in enumerate(rest, start=1))
            body.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
        notes = "".join(f'<p class="note">{escape(note)}</p>' for note in self._all_notes())
        return (
            f'<div class="table"><table><caption>{escape(self.title)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>{notes}"
        )

    def _lines(self) -> list[list[list[str]]]:
        """Every cell as the lines it shows."""
        return [
            [cell_lines(cell, col.spec) for cell, col in zip(row, self.columns, strict=True)]
            for row in self.rows
        ]

    def _all_notes(self) -> list[str]:
        return [*self.notes, *(f"{c.title}: {c.note}" for c in self.columns if c.note)]

    def _is_left(self, place: int) -> bool:
        align = self.columns[place].align
        return align == "left" if align else any(isinstance(row[place], str) for row in self.rows)

    def _class(self, place: int) -> str:
        return "" if place == 0 or self._is_left(place) else ' class="number"'

    def _blocks(self, width: int | None) -> list[list[int]]:
        """Split the columns into blocks that fit ``width``; each begins with the first column."""
        everything = list(range(len(self.columns)))
        if width is None:
            return [everything]
        lines = self._lines()
        gap = 3  # what box.SIMPLE_HEAD puts between two columns
        widths = [
            gap + max(map(cell_len, [c.heading, *(line for row in lines for line in row[i])]))
            for i, c in enumerate(self.columns)
        ]
        blocks = [[0]]
        for place in everything[1:]:
            if len(blocks[-1]) > 1 and sum(widths[i] for i in [*blocks[-1], place]) > width + gap:
                blocks.append([0])
            blocks[-1].append(place)
        return blocks


def cell_lines(cell: Cell, spec: str) -> list[str]:
    """Return the lines that a cell shows, numbers formatted by ``spec``.

    Example:
      >>> cell_lines((0.51239, None, True), ".2f")
      ['0.51', '–', 'yes']
    """
    if isinstance(cell, tuple):
        return [line for part in cell for line in cell_lines(part, spec)]
    if cell is None:
        return ["–"]
    if isinstance(cell, (Summary, Paired)):
        return [cell.text(spec)]
    if isinstance(cell, bool):
        return ["yes" if cell else "no"]
    if isinstance(cell, float):
        return [format(cell, spec)]
    return str(cell).splitlines() or [""]


def _markdown(text: str) -> str:
    text = text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _html_lines(lines: Sequence[str]) -> str:
    first, *rest = map(escape, lines)
    return first + "".join(f'<br><span class="second">{line}</span>' for line in rest)
