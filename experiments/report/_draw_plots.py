"""What accuracy is reached by retraining what was drawn at different epochs."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FormatStrFormatter, NullLocator, PercentFormatter
from numpy.typing import ArrayLike

from experiments.report._style import ArmStyle, arm_styles, styled

_WIDE = 20  # from this ratio of last to first epoch on, the horizontal axis is logarithmic
_ROOM = 0.035  # of the axis, between two labels
_CLOSE = 0.1  # points up to so far below the best accuracy are in the close-up


class DrawCurve(NamedTuple):
    """Accuracy after retraining, by the epoch of the draw.

    Attributes:
      epochs: the E draw epochs, ascending, from 1 on.
      accuracy: float [S, E] in [0, 1], one row per seed; NaN where a seed was not retrained.
      tickets: for each seed the epoch of its ticket and the accuracy that it reached; None where there is none.
      best: the draw epoch that validation data would choose; None leaves its mark out.
    """

    epochs: Sequence[int]
    accuracy: ArrayLike
    tickets: Sequence[tuple[int, float] | None] = ()
    best: int | None = None


@styled
def accuracy_by_draw(
    curves: Mapping[str, DrawCurve],
    *,
    baseline: Sequence[float] = (),
    styles: Mapping[str, ArmStyle] | None = None,
    title: str = "Accuracy after retraining, by the epoch of the draw",
    ylabel: str = "accuracy after retraining",
) -> Figure:
    """Mean over seeds and one standard deviation around it, against a band of the unpruned network's.

    A star stands where a seed's ticket emerged, at the accuracy that it reached; a ring around the draw epoch that
    validation data would choose.

    Args:
      curves: one per name, such as a prune ratio; at least one.
      baseline: accuracies of the unpruned network, one per seed; empty leaves the band out.
      styles: from ``arm_styles``; by default made from ``curves``.
      title: the picture's title.
      ylabel: name of the vertical axis.

    Returns:
      A ``Figure`` of one axes.

    Raises:
      ValueError: no curve, epochs that do not rise from 1 on, or accuracies that do not fit them; the message names
        the curve.
    """
    checked = {name: _checked(name, curve) for name, curve in curves.items()}
    if not checked:
        raise ValueError(
            "there is no curve to draw; give at least one, {'p = 50%': DrawCurve(...)}."
        )
    # black is the baseline's
    styles = styles or dict(zip(curves, list(arm_styles(["", *curves]).values())[1:], strict=True))
    figure = Figure(figsize=(9.0, 4.8), layout="constrained")
    axes = figure.subplots()
    handles = []
    if len(baseline):
        mean, sd = _mean_and_sd(np.asarray(baseline, float)[:, None])
        axes.axhspan(mean[0] - sd[0], mean[0] + sd[0], color="#d8d8d8", linewidth=0, zorder=0)
        axes.axhline(mean[0], color="#000000", linestyle=(0, (5, 2)), linewidth=1.2)
        handles.append(Line2D([], [], color="#000000", linestyle=(0, (5, 2)), label="unpruned"))
    for name, rows in checked.items():
        handles.append(_draw(axes, curves[name], rows, name, styles[name]))
    look = {"linestyle": "", "color": "#666666"}
    if any(curve.best is not None for curve in curves.values()):
        ring = {"marker": "o", "markersize": 12, "markerfacecolor": "none"}
        handles.append(Line2D([], [], label="best by validation", **look, **ring))  # type: ignore[arg-type]
    if any(ticket for curve in curves.values() for ticket in curve.tickets):
        handles.append(Line2D([], [], marker="*", markersize=11, label="a seed's ticket", **look))  # type: ignore[arg-type]
    _label_epochs(axes, curves.values())
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=None))
    axes.set(title=title, xlabel="epoch of the draw", ylabel=ylabel)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6))
    return figure


def _checked(name: str, curve: DrawCurve) -> np.ndarray:
    rows, epochs = np.asarray(curve.accuracy, float), list(curve.epochs)
    if rows.ndim != 2 or rows.shape[1] != len(epochs) or not epochs:
        raise ValueError(
            f"{name}: accuracies of shape {rows.shape} do not fit {len(epochs)} draw epochs; give one row per seed "
            "and one column per epoch, at least one."
        )
    if any(a >= b for a, b in zip((0, *epochs), epochs, strict=False)):
        raise ValueError(f"{name}: the draw epochs {epochs} do not rise from 1 on; sort them.")
    if curve.best is not None and curve.best not in epochs:
        raise ValueError(f"{name}: best={curve.best} is not among the draw epochs {epochs}.")
    return rows


def _mean_and_sd(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and sample standard deviation over seeds, 0 for a single one."""
    counts = np.isfinite(rows).sum(axis=0)
    mean = np.nansum(rows, axis=0) / np.maximum(counts, 1)
    squares = np.nansum((rows - mean) ** 2, axis=0) / np.maximum(counts - 1, 1)
    return np.where(counts, mean, np.nan), np.where(counts > 1, np.sqrt(squares), 0.0)


def _draw(axes: Axes, curve: DrawCurve, rows: np.ndarray, name: str, style: ArmStyle) -> Line2D:
    mean, sd = _mean_and_sd(rows)
    epochs = np.asarray(curve.epochs)
    [line] = axes.plot(
        epochs, mean, style.dash, marker=style.marker, color=style.colour, label=name
    )
    axes.fill_between(epochs, mean - sd, mean + sd, color=style.colour, alpha=0.15, linewidth=0)
    if curve.best is not None:
        place = list(curve.epochs).index(curve.best)
        axes.plot([curve.best], [mean[place]], "o", ms=12, mfc="none", mec=style.colour, mew=1.4)
    for ticket in curve.tickets:
        if ticket is not None:
            axes.plot(*ticket, "*", color=style.colour, ms=11, mec="white", mew=0.7, zorder=5)
    return line


def _label_epochs(axes: Axes, curves: Collection[DrawCurve]) -> None:
    """Name draw epochs and tickets, as far as there is room; a wide range goes by its logarithm."""
    epochs = {epoch for curve in curves for epoch in curve.epochs}
    epochs |= {ticket[0] for curve in curves for ticket in curve.tickets if ticket is not None}
    wide = max(epochs) >= _WIDE * min(epochs)
    if wide:
        axes.set_xscale("log")
    low, high = (math.log(x) if wide else x for x in (min(epochs), max(epochs)))
    named: list[int] = []
    for epoch in sorted(epochs):
        place = math.log(epoch) if wide else epoch
        last = (math.log(named[-1]) if wide else named[-1]) if named else -math.inf
        if place - last >= _ROOM * (high - low):
            named.append(epoch)
    axes.xaxis.set_major_locator(FixedLocator(named))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FormatStrFormatter("%d"))


class CostPoint(NamedTuple):
    """What one way of training costs and reaches.

    Attributes:
      cost: for each seed, its cost; NaN where there is none.
      accuracy: for each seed, the accuracy in [0, 1] that it reached.
    """

    cost: Sequence[float]
    accuracy: Sequence[float]


@styled
def accuracy_by_cost(
    points: Mapping[str, CostPoint],
    *,
    path: Sequence[CostPoint] = (),
    path_name: str = "",
    styles: Mapping[str, ArmStyle] | None = None,
    title: str = "Accuracy by the cost of training",
    xlabel: str = "training cost, share of the unpruned network's",
    ylabel: str = "accuracy",
) -> Figure:
    """A point for each way of training: means over seeds, with one standard deviation both ways.

    Args:
      points: one per name, at least one; costs as fractions of a reference.
      path: further points that a grey line joins, such as those of rising draw epochs.
      path_name: its name in the legend.
      styles: from ``arm_styles``; by default made from ``points``.
      title: the picture's title.
      xlabel: name of the horizontal axis.
      ylabel: name of the vertical axis.

    Returns:
      A ``Figure`` of two axes that show the same points.

    Raises:
      ValueError: no point, or one whose costs and accuracies differ in number; the message names it.
    """
    if not points:
        raise ValueError("there is no point to draw; give at least one, {'dense': CostPoint(...)}.")
    named = [*points.items(), *((f"point {i} of the path", p) for i, p in enumerate(path))]
    for name, point in named:
        if len(point.cost) != len(point.accuracy) or not len(point.cost):
            raise ValueError(
                f"{name}: {len(point.cost)} costs and {len(point.accuracy)} accuracies; give one of each per seed."
            )
    styles = styles or arm_styles(list(points))
    figure = Figure(figsize=(10.0, 4.8), layout="constrained")
    figure.suptitle(title, fontweight="bold", x=0.01, ha="left")
    whole, close = figure.subplots(1, 2, sharex=True)
    tops = []
    for axes in (whole, close):
        if path:
            means = np.array([[_of_seeds(values)[0] for values in point] for point in path])
            axes.plot(*means.T, "-", marker=".", color="#999999", linewidth=1.2, label=path_name)
            tops += means[:, 1].tolist()
        for name, point in points.items():
            (x, dx), (y, dy) = map(_of_seeds, point)
            look: Any = {"color": styles[name].colour, "ms": 7, "capsize": 2, "elinewidth": 1.0}
            axes.errorbar([x], [y], [dy], [dx], fmt=styles[name].marker, label=name, **look)
            tops.append(y)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=None))
        axes.set_xlabel(xlabel)
    whole.set_xlim(left=0.0)
    whole.set(title="All", ylabel=ylabel)
    best = np.nanmax(tops)
    low = min(top for top in tops if top >= best - _CLOSE)
    room = max(best - low, 0.01)
    close.set(title="Close-up of the top", ylim=(low - 0.25 * room, best + 0.25 * room))
    handles = whole.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=5)
    return figure


def _of_seeds(values: Sequence[float]) -> tuple[float, float]:
    mean, sd = _mean_and_sd(np.asarray(values, float)[:, None])
    return float(mean[0]), float(sd[0])
