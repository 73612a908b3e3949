"""A report in one file: text, tables and pictures, readable without a network and on paper."""

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from matplotlib.figure import Figure

from experiments.report._style import figure_svg
from experiments.report._tables import Table

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif;
  color: #1a1a1a; background: #fff; margin: 2rem auto; max-width: 80rem; padding: 0 1.25rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-top: .6rem; border-top: 1px solid #ddd; }
p { max-width: 46rem; margin: .5rem 0; }
.subtitle { color: #555; }
nav { margin: 1rem 0; } nav a { margin-right: 1.2rem; color: #0b5cad; }
figure { margin: 1.2rem 0; } figure img { max-width: 100%; height: auto; display: block; }
figcaption, .note { color: #555; font-size: .85rem; max-width: 60rem; margin: .3rem 0; }
.table { overflow-x: auto; margin: 1rem 0 .4rem; }
table { border-collapse: collapse; font-size: .8rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .35rem .55rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid #e3e3e3; }
thead th { border-bottom: 2px solid #888; vertical-align: bottom; }
tbody th { font-weight: 600; min-width: 8rem; } .number { text-align: right; white-space: nowrap; }
.unit { font-weight: 400; color: #555; } .second { color: #666; font-size: .92em; }
.facts th { font: .82rem ui-monospace, "DejaVu Sans Mono", monospace; color: #555; }
.facts td { overflow-wrap: anywhere; }
pre { background: #f5f5f5; padding: .7rem .9rem; white-space: pre-wrap; overflow-wrap: anywhere;
  font: .85rem/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
.callout { border-left: 4px solid #d55e00; background: #fdf1ea; padding: .6rem .9rem; }
@media print {
  body { margin: 0; max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; } figure, tr, pre { break-inside: avoid; } h2 { break-after: avoid; }
  .table { overflow: visible; } table { font-size: 7.5pt; } th, td { padding: .2rem .35rem; } }
"""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure with the sentence under it; ``alt`` is what a reader hears who cannot see it."""

    figure: Figure
    caption: str
    alt: str = ""


@dataclasses.dataclass(frozen=True)
class Facts:
    """Names and values, such as a configuration; nested mappings are written with dots."""

    title: str
    values: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Code:
    """Text shown as typed, such as a command."""

    text: str


@dataclasses.dataclass(frozen=True)
class Markup:
    """HTML that stands in the report as it is, such as a table that the library has made."""

    html: str


@dataclasses.dataclass(frozen=True)
class Callout:
    """A sentence that must not be overlooked, such as an arm that failed."""

    text: str


Block = str | Table | Picture | Facts | Code | Callout | Markup  # a string is a paragraph


@dataclasses.dataclass(frozen=True)
class Section:
    """A headed part of the report."""

    title: str
    blocks: Sequence[Block]


def html_report(title: str, sections: Sequence[Section], *, subtitle: str = "") -> str:
    """Return the report as one HTML document that needs no other file.

    Args:
      title: the document's title.
      sections: its parts, in order; each is linked from the top.
      subtitle: one line under the title.

    Returns:
      HTML text. All text is escaped but that of ``Markup``, styles and pictures (SVG, as ``data:``
      addresses) are inside.

    Raises:
      TypeError: a block is of no known kind; the message names the section.

    Example:
      >>> page = html_report("Tickets", [Section("Result", ["worm < standard"])])
      >>> "<p>worm &lt; standard</p>" in page
      True
    """
    links = "".join(f'<a href="#s{i}">{escape(s.title)}</a>' for i, s in enumerate(sections))
    parts = "".join(
        f'<section id="s{i}"><h2>{escape(section.title)}</h2>'
        + "".join(_block(block, section.title) for block in section.blocks)
        + "</section>\n"
        for i, section in enumerate(sections)
    )
    under = f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1>{under}<nav>{links}</nav></header>\n"
        f"<main>\n{parts}</main>\n</body>\n</html>\n"
    )


def _block(block: Block, section: str) -> str:
    match block:
        case str():
            return f"<p>{escape(block)}</p>\n"
        case Table():
            return block.html() + "\n"
        case Picture():
            return _picture(block)
        case Facts():
            return _facts(block)
        case Code():
            return f"<pre>{escape(block.text)}</pre>\n"
        case Callout():
            return f'<p class="callout">{escape(block.text)}</p>\n'
        case Markup():
            return block.html + "\n"
    raise TypeError(
        f"the section {section!r} holds a {type(block).__name__}; a block is a string, Table, "
        "Picture, Facts, Code, Callout or Markup."
    )


def _picture(picture: Picture) -> str:
    # As an image and not as inline SVG: the names inside one drawing cannot clash with another's.
    data = base64.b64encode(figure_svg(picture.figure).encode()).decode()
    alt = escape(picture.alt or picture.caption, quote=True)
    return (
        f'<figure><img alt="{alt}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>\n"
    )


def _facts(facts: Facts) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in _flat(facts.values)
    )
    caption = f"<caption>{escape(facts.title)}</caption>" if facts.title else ""
    return f'<div class="table facts"><table>{caption}<tbody>{rows}</tbody></table></div>\n'


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            pairs.append((f"{prefix}{name}", ", ".join(map(str, value))))
        else:
            pairs.append((f"{prefix}{name}", "–" if value is None else str(value)))
    return pairs
