"""One look for every picture: colours told apart by colour-blind readers, and files that repeat."""

import io
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec

import matplotlib as mpl
from matplotlib.figure import Figure

# Okabe and Ito's palette with Tol's indigo for its yellow, which is lost on white paper. Black comes
# first: the first arm is usually the baseline.
_COLOURS = (
    "#000000",
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#332288",
)
_DASHES = ("-", "--", ":", "-.")
_HATCHES = (None, "///", "...", "xxx")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

_LOOK: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "legend.handlelength": 3.0,  # so that dashes are seen
    "lines.linewidth": 1.8,
    "lines.markersize": 5.0,
    "svg.hashsalt": "wormjax",  # the same figure gives the same file
    "svg.fonttype": "path",  # readable where the font is not installed
}

P = ParamSpec("P")


class ArmStyle(NamedTuple):
    """Colour, dash and marker of one arm; no two of the first 32 arms share colour and dash."""

    colour: str
    dash: str
    marker: str

    @property
    def hatch(self) -> str | None:
        """What tells bars apart, as dashes do lines."""
        return _HATCHES[_DASHES.index(self.dash)]


def arm_styles(arms: Sequence[str]) -> dict[str, ArmStyle]:
    """One style per arm, by its place; pass the same list for every picture of a report.

    Example:
      >>> arm_styles(["dense", "worm"])["worm"]
      ArmStyle(colour='#0072B2', dash='-', marker='s')
    """
    n = len(_COLOURS)
    return {
        arm: ArmStyle(_COLOURS[i % n], _DASHES[(i // n) % len(_DASHES)], _MARKERS[(i + i // n) % n])
        for i, arm in enumerate(arms)
    }


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run a drawing function under the house look, leaving matplotlib's settings as they were."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(_LOOK):
            return draw(*args, **kwargs)

    return drawn


def figure_svg(figure: Figure) -> str:
    """Return the figure as SVG text; the same figure gives the same text."""
    stream = io.StringIO()
    with mpl.rc_context(_LOOK):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def save_figure(figure: Figure, path: Path) -> Path:
    """Write the figure as the suffix of ``path`` says (.png, .svg, .pdf), making its folder.

    Returns:
      ``path``.

    Raises:
      ValueError: the suffix is none of these.
    """
    metadata: dict[str, dict[str, str | None]] = {
        ".png": {"Software": None},
        ".svg": {"Date": None},
        ".pdf": {"CreationDate": None},
    }
    if path.suffix not in metadata:
        raise ValueError(f"{path.name}: a figure is written as {', '.join(metadata)}; use one.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_LOOK):
        figure.savefig(path, dpi=160, metadata=metadata[path.suffix])
    return path
