"""What a ticket keeps in each layer, and what accuracy it buys for how much computation."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter
from numpy.typing import ArrayLike

from experiments.report._style import ArmStyle, arm_styles, styled

_COUNTED = 14  # up to so many layers each bar carries its count


class AccuracyCurve(NamedTuple):
    """Accuracy along cumulative training FLOPs for one arm; seeds may differ in length.

    Attributes:
      flops: for each seed, the cumulative training FLOPs at its evaluations, never falling.
      accuracy: for each seed, the accuracy in [0, 1] at the same points.
    """

    flops: Sequence[Sequence[float]]
    accuracy: Sequence[Sequence[float]]


@styled
def kept_widths(
    layers: Sequence[str],
    total: Sequence[int],
    kept: Mapping[str, ArrayLike],
    *,
    styles: Mapping[str, ArmStyle] | None = None,
    title: str = "Channels kept in each layer",
) -> Figure:
    """Bars of the fraction kept in each layer, one panel per arm.

    A bar is the mean over seeds, its whisker reaches from the least to the greatest seed, and the
    grey bar behind it is the whole layer. Few layers carry the mean count as well.

    Args:
      layers: L names, in the network's order.
      total: L widths before pruning, in channels.
      kept: for each arm, channels kept, [S, L].
      styles: from ``arm_styles``; by default made from ``kept``.
      title: the picture's title.

    Returns:
      A ``Figure`` with one axes per arm.

    Raises:
      ValueError: no arm, or an array that does not fit the layers; the message names the arm.
    """
    styles = styles or arm_styles(list(kept))
    widths = np.asarray(total, float)
    rows = {name: _checked_widths(name, values, widths, layers) for name, values in kept.items()}
    if not rows:
        raise ValueError("there is no arm to draw; give at least one, {'worm': kept}.")
    columns = 1 if len(layers) > 24 or len(rows) == 1 else 2
    lines = -(-len(rows) // columns)
    panel = max(4.5, 0.34 * len(layers))
    figure = Figure(figsize=(panel * columns + 0.8, 1.75 * lines + 1.3), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    figure.suptitle(title, fontweight="bold", x=0.01, ha="left")
    for axes, (name, values) in zip(grid.flat, rows.items(), strict=False):
        _draw_widths(axes, values, widths, styles[name].colour)
        axes.set_title(f"{name}: {values.mean(axis=0).sum():.0f} of {widths.sum():.0f} channels")
    for axes in grid.flat[len(rows) :]:
        axes.remove()
    names = [f"{layer} ({width})" for layer, width in zip(layers, total, strict=True)]
    lying = len(layers) * (2 + max(map(len, names))) * 0.065 < panel  # inches a character
    for place, axes in enumerate(grid.flat[: len(rows)]):
        if place + columns >= len(rows):  # nothing below it: its layers are named here
            axes.set_xticks(range(len(layers)), names, rotation=0 if lying else 90, fontsize=8)
            axes.tick_params(labelbottom=True)
        if place % columns == 0:
            axes.set_ylabel("kept")
    return figure


@styled
def accuracy_against_flops(
    arms: Mapping[str, AccuracyCurve],
    *,
    target: float | None = None,
    styles: Mapping[str, ArmStyle] | None = None,
    ylabel: str = "accuracy",
) -> Figure:
    """Accuracy against cumulative training FLOPs, whole (left) and close to the top (right).

    Thin lines are seeds. The thick line is their mean where all seeds have values, each seed
    interpolated linearly between its own evaluations. A seed that has two values at the same FLOPs
    was pruned there; between the first seed's pruning and the last one's the thick line is broken,
    because a mean over networks before and after it is the accuracy of none.

    Args:
      arms: one curve per arm.
      target: an accuracy in [0, 1] to mark with a line.
      styles: from ``arm_styles``; by default made from ``arms``.
      ylabel: name of the vertical axis, such as "validation accuracy".

    Returns:
      A ``Figure`` of two axes that show the same lines.

    Raises:
      ValueError: no arm, or a seed whose lengths differ, is empty, or whose FLOPs fall; the message
        names the arm and the seed.
    """
    styles = styles or arm_styles(list(arms))
    curves = {name: _checked_curve(name, curve) for name, curve in arms.items()}
    if not curves:
        raise ValueError(
            "there is no arm to draw; give at least one, {'worm': AccuracyCurve(...)}."
        )
    figure = Figure(figsize=(10.0, 4.8), layout="constrained")
    whole, close = figure.subplots(1, 2, sharex=True)
    unit, prefix = _unit(max(x[-1] for seeds in curves.values() for x, _ in seeds))
    for axes in (whole, close):
        for name, seeds in curves.items():
            style = styles[name]
            if len(seeds) > 1:
                for x, y in seeds:
                    axes.plot(x, y, color=style.colour, alpha=0.25, linewidth=0.7)
            x, y = _mean_curve(seeds)
            last = [len(x) - 1]
            look = {"marker": style.marker, "markevery": last, "markeredgecolor": "white"}
            axes.plot(x, y, style.dash, color=style.colour, label=name, **look)
        if target is not None:
            axes.axhline(target, color="#444444", linestyle=(0, (5, 2)), linewidth=1.2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / unit:g}"))
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=None))
        axes.set_xlabel(f"cumulative training computation [{prefix}FLOP]")
    whole.set(title="Whole run", ylabel=ylabel)
    close.set(title="Close-up of the top", ylim=_close_limits(curves, target))
    if target is not None:
        where = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        text = f"target {target:.1%}"
        whole.annotate(text, (1.0, target), xytext=(-2, -11), ha="right", fontsize=9, **where)
    figure.legend(*whole.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _checked_widths(
    name: str, values: ArrayLike, widths: np.ndarray, layers: Sequence[str]
) -> np.ndarray:
    rows = np.asarray(values, float)
    if len(widths) != len(layers) or rows.ndim != 2 or rows.shape[1] != len(layers):
        raise ValueError(
            f"{name}: kept channels of shape {rows.shape} and {len(widths)} widths do not fit "
            f"{len(layers)} layers; give one row per seed and one column per layer."
        )
    if np.any(rows > widths) or np.any(rows < 0):
        layer = layers[int(np.argmax(((rows > widths) | (rows < 0)).any(axis=0)))]
        raise ValueError(
            f"{name}: layer {layer!r} keeps more channels than it has, or fewer than none; pass "
            "counts of kept channels, not fractions or pruned ones."
        )
    return rows


def _checked_curve(name: str, curve: AccuracyCurve) -> list[tuple[np.ndarray, np.ndarray]]:
    seeds = []
    for seed, (flops, accuracy) in enumerate(zip(curve.flops, curve.accuracy, strict=True)):
        x, y = np.asarray(flops, float), np.asarray(accuracy, float)
        if x.ndim != 1 or x.shape != y.shape or x.size == 0 or np.any(np.diff(x) < 0):
            raise ValueError(
                f"{name}, seed {seed}: {x.size} FLOPs and {y.size} accuracies; give as many of one "
                "as of the other, at least one, with cumulative FLOPs that never fall."
            )
        seeds.append((x, y))
    if not seeds:
        raise ValueError(f"{name}: the curve has no seed; leave the arm out or give its seeds.")
    return seeds


def _draw_widths(axes: Axes, values: np.ndarray, widths: np.ndarray, colour: str) -> None:
    places = range(len(widths))
    fraction = values / widths
    middle = fraction.mean(axis=0)
    whiskers = np.stack([middle - fraction.min(axis=0), fraction.max(axis=0) - middle])
    axes.bar(places, 1.0, width=0.8, color="#ececec")
    axes.bar(places, middle, width=0.8, color=colour)
    if len(values) > 1:
        reach = np.maximum(whiskers, 0.0)  # rounding can leave -1e-17
        axes.errorbar(places, middle, reach, fmt="none", ecolor="white", elinewidth=2.6, capsize=0)
        axes.errorbar(places, middle, reach, fmt="none", ecolor="#333333", elinewidth=1, capsize=2)
    if len(widths) <= _COUNTED:
        for place, count, top in zip(
            places, values.mean(axis=0), fraction.max(axis=0), strict=True
        ):
            text = f"{count:.0f}" if float(count).is_integer() else f"{count:.1f}"
            axes.text(place, top + 0.03, text, ha="center", va="bottom", fontsize=7)
    axes.set_ylim(0.0, 1.15 if len(widths) <= _COUNTED else 1.0)
    axes.set_yticks([0.0, 0.5, 1.0])
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0))
    axes.grid(False, axis="x")


def _mean_curve(seeds: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    start, end = max(x[0] for x, _ in seeds), min(x[-1] for x, _ in seeds)
    grid = np.unique(np.concatenate([x for x, _ in seeds]))
    grid = grid[(grid >= start) & (grid <= end)]
    mean = np.mean([np.interp(grid, x, y) for x, y in seeds], axis=0)
    pruned = np.concatenate([x[1:][np.diff(x) == 0] for x, _ in seeds])
    if pruned.size:
        mean[(grid >= pruned.min()) & (grid < pruned.max())] = np.nan
    return grid, mean


def _unit(largest: float) -> tuple[float, str]:
    """The power of 1000 that leaves one to three digits before the point."""
    power = min(max(math.floor(math.log10(largest) / 3), 0), 6) if largest > 0 else 0
    return 1000.0**power, ("", "k", "M", "G", "T", "P", "E")[power]


def _close_limits(
    curves: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]], target: float | None
) -> tuple[float, float]:
    """From below the worst end of a seed to above the best accuracy of any."""
    ends = [y[-1] for seeds in curves.values() for _, y in seeds]
    best = max(float(np.max(y)) for seeds in curves.values() for _, y in seeds)
    low = min([*ends, *([] if target is None else [target])])
    room = max(best - low, 0.01)
    return max(low - 0.5 * room, 0.0), min(best + 0.1 * room, 1.0)
