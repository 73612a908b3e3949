"""Rows of text as an aligned table and as an HTML one."""

from collections.abc import Collection, Sequence
from html import escape


def as_text(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Collection[int],
    notes: Sequence[str] = (),
) -> str:
    """Return aligned lines, the notes below.

    Args:
      head: the titles.
      rows: one text a column.
      numbers: the columns that stand right.
      notes: sentences for the foot.

    Example:
      >>> print(as_text(("leaf", "kept"), [("kernel", "5"), ("bias", "12")], numbers={1}))
      leaf    kept
      kernel     5
      bias      12
    """
    table = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(w) if k in numbers else cell.ljust(w)
            for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
    return "\n".join([*lines, *notes])


def as_html(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Collection[int],
    notes: Sequence[str] = (),
) -> str:
    """Return a ``<table>`` in a scrolling ``<div>``, as the reports have them; all text is escaped.

    Args:
      caption: what stands over the table.
      head: as for `as_text`; the first column names the row.
      rows: as for `as_text`.
      numbers: as for `as_text`.
      notes: as for `as_text`.

    Example:
      >>> "<td>&lt;</td>" in as_html("Signs", ("name", "sign"), [("less", "<")], numbers=())
      True
    """

    def css_class(column: int) -> str:
        return ' class="number"' if column in numbers else ""

    titles = "".join(f'<th scope="col"{css_class(k)}>{escape(t)}</th>' for k, t in enumerate(head))
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td{css_class(k)}>{escape(t)}</td>" for k, t in enumerate(rest, start=1))
        + "</tr>"
        for first, *rest in rows
    )
    foot = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    return (
        f'<div class="table"><table><caption>{escape(caption)}</caption><thead><tr>{titles}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{foot}"
    )
