"""How far the masks of different epochs are from each other."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike

from experiments.report._style import ArmStyle, arm_styles, styled

_NUMBERED = 14  # up to so many epochs each cell of a heat map carries its number


class HeatMap(NamedTuple):
    """Distances between the masks of every two epochs of one run.

    Attributes:
      distances: float [E, E] in [0, 1]; NaN where a distance was not measured.
      epochs: the E epochs that the rows and columns stand for, ascending.
      emerged_at: the epoch at which the ticket was drawn; None where none emerged.
    """

    distances: ArrayLike
    epochs: Sequence[int]
    emerged_at: int | None = None


class DistanceTrace(NamedTuple):
    """Largest and mean distance inside the window, epoch by epoch, for one arm.

    Attributes:
      epochs: the E epochs of the checks, ascending.
      largest: float [S, E], one row per seed; NaN where the window was not full or the search over.
      mean: float [S, E], likewise.
      emerged_at: for each seed the epoch of its ticket, None where none emerged; may be empty.
    """

    epochs: Sequence[int]
    largest: ArrayLike
    mean: ArrayLike
    emerged_at: Sequence[int | None] = ()


@styled
def heat_maps(
    maps: Mapping[str, HeatMap],
    *,
    stop: float | None = None,
    title: str = "Mask distance between epochs",
    step: str = "epoch",
) -> Figure:
    """Heat maps of mask distance, side by side under one colour scale from 0 to 1.

    Colour follows the square root of the distance, so that the small distances that decide when a
    search stops can be told apart; with few epochs every cell carries its number as well.

    Args:
      maps: one panel per name, at least one.
      stop: the stopping distance; pairs of epochs at most that far apart are outlined, and the
        colour bar carries a line there.
      title: the picture's title.
      step: what the axes count.

    Returns:
      A ``Figure``; the panels come first in its axes and the colour bar last.

    Raises:
      ValueError: no map, a matrix that is not square, epochs of another length, or an
        ``emerged_at`` that is not among the epochs; the message names the panel.
    """
    checked = {name: _checked_map(name, heat_map) for name, heat_map in maps.items()}
    if not checked:
        raise ValueError("there is no heat map to draw; give at least one, {'worm': HeatMap(...)}.")
    columns = min(len(checked), 3)
    rows = -(-len(checked) // columns)
    side = 5.0 if columns == 1 else 3.6
    figure = Figure(figsize=(side * columns + 1.2, (side + 0.5) * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(checked) :]:
        axes.remove()
    figure.suptitle(title, fontweight="bold", x=0.01, ha="left")
    colours = colormaps["viridis"].with_extremes(bad="#ececec")
    panels = list(grid.flat[: len(checked)])
    for axes, (name, (distances, heat_map)) in zip(panels, checked.items(), strict=True):
        scale = PowerNorm(0.5, vmin=0.0, vmax=1.0)
        picture = axes.imshow(distances, cmap=colours, norm=scale, origin="lower")
        axes.set_title(name, pad=18)
        axes.set_xlabel(step)
        _label_epochs(axes, heat_map.epochs)
        if len(heat_map.epochs) <= _NUMBERED:
            _number_cells(axes, distances, heat_map, size=8.0 if columns == 1 else 5.5)
        if stop is not None:
            _outline(axes, distances <= stop)
        _mark_emergence(axes, heat_map, step)
    for row in grid:
        row[0].set_ylabel(step)
    bar = figure.colorbar(picture, ax=panels, shrink=0.85, pad=0.02)
    bar.set_ticks([0.0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0])
    bar.ax.yaxis.set_major_formatter("{x:g}")
    label = "mask distance (fraction of entries that differ)"
    if stop is not None:
        bar.ax.axhline(stop, color="white", linewidth=2.0)
        label += f"\nwhite line: stop at {stop:g}, outlined in the maps"
    bar.set_label(label)
    return figure


@styled
def distance_lines(
    arms: Mapping[str, DistanceTrace],
    *,
    stop: float | None = None,
    trigger: float | None = None,
    styles: Mapping[str, ArmStyle] | None = None,
    step: str = "epoch",
) -> Figure:
    """Largest (left) and mean (right) distance inside the window, one line per arm.

    A line is the mean over the seeds that have a value at that epoch, its band reaches from the
    least to the greatest seed, and a marker stands where a seed's ticket was drawn.

    Args:
      arms: one trace per arm.
      stop: the stopping distance, a line in the left panel.
      trigger: the trigger distance, a line in the right panel.
      styles: from ``arm_styles``; by default made from ``arms``.
      step: what the horizontal axis counts.

    Returns:
      A ``Figure`` of two axes.

    Raises:
      ValueError: a trace's shapes do not agree; the message names the arm.
    """
    styles = styles or arm_styles(list(arms))
    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    for name, trace in arms.items():
        for axes, values in ((left, trace.largest), (right, trace.mean)):
            rows = _checked_trace(name, trace, values)
            _band(axes, np.asarray(trace.epochs), rows, name, styles[name])
            _mark_tickets(axes, trace, rows, styles[name])
    for axes, title in ((left, "Largest distance in the window"), (right, "Mean distance")):
        axes.set(title=title, xlabel=step, ylabel="mask distance")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes, level, name in ((left, stop, "stop"), (right, trigger, "trigger")):
        if level is not None:
            axes.axhline(level, color="#444444", linestyle=(0, (5, 2)), linewidth=1.2)
            axes.annotate(
                f"{name} {level:g}",
                (1.0, level),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 3),
                textcoords="offset points",
                ha="right",
                fontsize=9,
                color="#444444",
            )
        top = max(axes.get_ylim()[1], 1.12 * (level or 0.0))
        axes.set_ylim(0.0, top)
    handles, names = left.get_legend_handles_labels()
    if any(epoch is not None for trace in arms.values() for epoch in trace.emerged_at):
        handles.append(Line2D([], [], linestyle="", marker="o", color="#666666"))
        names.append("a seed's ticket")
    figure.legend(handles, names, loc="outside lower center", ncols=4)
    return figure


def _checked_map(name: str, heat_map: HeatMap) -> tuple[np.ndarray, HeatMap]:
    distances = np.asarray(heat_map.distances, float)
    size = len(heat_map.epochs)
    if distances.shape != (size, size) or size == 0:
        raise ValueError(
            f"{name}: distances of shape {distances.shape} do not fit {size} epochs; give a square "
            "matrix with one row and one column per epoch."
        )
    if heat_map.emerged_at is not None and heat_map.emerged_at not in heat_map.epochs:
        raise ValueError(
            f"{name}: emerged_at={heat_map.emerged_at} is not among the epochs "
            f"{heat_map.epochs[0]} to {heat_map.epochs[-1]}; give the epoch itself, not its place."
        )
    return distances, heat_map


def _checked_trace(name: str, trace: DistanceTrace, values: ArrayLike) -> np.ndarray:
    rows = np.asarray(values, float)
    if rows.ndim != 2 or rows.shape[1] != len(trace.epochs):
        raise ValueError(
            f"{name}: distances of shape {rows.shape} do not fit {len(trace.epochs)} epochs; give "
            "one row per seed and one column per epoch, NaN where there is no value."
        )
    if len(trace.emerged_at) not in (0, len(rows)):
        raise ValueError(
            f"{name}: emerged_at has {len(trace.emerged_at)} entries for {len(rows)} seeds; give "
            "one per seed, None where no ticket emerged."
        )
    return rows


def _label_epochs(axes: Axes, epochs: Sequence[int]) -> None:
    """Ticks name the epoch, not the row: a search need not start at epoch 0."""

    def name(place: float, _: int | None) -> str:
        row = round(place)
        return str(epochs[row]) if 0 <= row < len(epochs) and abs(place - row) < 1e-6 else ""

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        axis.set_major_formatter(FuncFormatter(name))
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _number_cells(axes: Axes, distances: np.ndarray, heat_map: HeatMap, size: float) -> None:
    for (row, column), value in np.ndenumerate(distances):
        starred = row == column and heat_map.epochs[row] == heat_map.emerged_at
        if np.isfinite(value) and not starred:
            text = f"{value:.2f}".removeprefix("0")
            colour = "black" if value > 0.36 else "white"
            axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)


def _outline(axes: Axes, inside: np.ndarray) -> None:
    """Draw the border between cells inside and outside the stopping distance."""
    edges: list[list[tuple[float, float]]] = []
    for i, j in zip(*np.nonzero(inside[:, 1:] != inside[:, :-1]), strict=True):
        edges.append([(j + 0.5, i - 0.5), (j + 0.5, i + 0.5)])
    for i, j in zip(*np.nonzero(inside[1:] != inside[:-1]), strict=True):
        edges.append([(j - 0.5, i + 0.5), (j + 0.5, i + 0.5)])
    axes.add_collection(LineCollection(edges, colors="white", linewidths=1.2), autolim=False)


def _mark_emergence(axes: Axes, heat_map: HeatMap, step: str) -> None:
    below_title: dict[str, Any] = {"transform": axes.transAxes, "va": "bottom", "fontsize": 9}
    if heat_map.emerged_at is None:
        axes.text(0.0, 1.02, "no ticket", **below_title)
        return
    place = list(heat_map.epochs).index(heat_map.emerged_at)
    axes.plot(
        place, place, marker="*", markersize=13, color="#D55E00", markeredgecolor="white", zorder=5
    )
    axes.text(
        0.0, 1.02, f"★ ticket at {step} {heat_map.emerged_at}", color="#D55E00", **below_title
    )


def _band(axes: Axes, epochs: np.ndarray, rows: np.ndarray, name: str, style: ArmStyle) -> None:
    known = np.isfinite(rows).any(axis=0)
    x, seen = epochs[known], rows[:, known]
    middle = np.nanmean(seen, axis=0)
    axes.plot(x, middle, style.dash, marker=".", color=style.colour, label=name)
    low, high = np.nanmin(seen, axis=0), np.nanmax(seen, axis=0)
    axes.fill_between(x, low, high, color=style.colour, alpha=0.15, linewidth=0)


def _mark_tickets(axes: Axes, trace: DistanceTrace, rows: np.ndarray, style: ArmStyle) -> None:
    places = {epoch: place for place, epoch in enumerate(trace.epochs)}
    drawn = [
        (epoch, row[places[epoch]])
        for epoch, row in zip(trace.emerged_at, rows, strict=False)
        if epoch is not None and epoch in places
    ]
    if drawn:
        x, y = zip(*drawn, strict=True)
        axes.plot(x, y, style.marker, color=style.colour, ms=7, mec="white", mew=0.8, zorder=4)
