"""What removing blocks does: to accuracy, to robustness, and to the time of training."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from experiments.report._density_plots import bands
from experiments.report._style import ArmStyle, arm_styles, styled


@styled
def accuracy_by_blocks(
    curves: Mapping[str, Mapping[int, Sequence[float]]],
    *,
    dense: Sequence[float],
    level: float = 0.95,
    styles: Mapping[str, ArmStyle] | None = None,
    ylabel: str = "test accuracy",
) -> Figure:
    """Mean accuracy over seeds against the number of removed blocks, with its t interval as a band.

    Args:
      curves: for each kind of arm, for each number of blocks one accuracy in [0, 1] per seed.
      dense: of the whole network, one per seed: a horizontal line at the mean.
      level: coverage of the bands; a single seed has none.
      styles: from ``arm_styles``; by default made from all arms.
      ylabel: name of the vertical axis.

    Returns:
      A ``Figure`` with one axes.

    Raises:
      ValueError: there is nothing to draw.
    """
    what = "blocks removed, or filters of as many"
    figure = _accuracy_lines(curves, dense, level, styles, xlabel=what, ylabel=ylabel)
    figure.axes[0].legend()
    return figure


@styled
def accuracy_by_rewind_epoch(
    curves: Mapping[str, Mapping[int, Sequence[float]]],
    *,
    dense: Sequence[float],
    level: float = 0.95,
    styles: Mapping[str, ArmStyle] | None = None,
    ylabel: str = "test accuracy",
) -> Figure:
    """Mean accuracy over seeds against the epoch that tickets go back to, with its t interval as a band.

    Args:
      curves: for each kind of arm, for each epoch one accuracy in [0, 1] per seed.
      dense: as for `accuracy_by_blocks`.
      level: likewise.
      styles: likewise.
      ylabel: likewise.

    Returns:
      A ``Figure`` with one axes and the legend below it.

    Raises:
      ValueError: there is nothing to draw.
    """
    what = "epoch of the weights gone back to"
    figure = _accuracy_lines(curves, dense, level, styles, xlabel=what, ylabel=ylabel)
    # lines go from edge to edge, and leave no corner free
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4)
    return figure


@styled
def robustness_bars(
    arms: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    styles: Mapping[str, ArmStyle] | None = None,
) -> Figure:
    """Accuracy under each disturbance, an arm by colour and hatching; whiskers reach from least to greatest seed.

    Args:
      arms: for each arm, for each disturbance one accuracy in [0, 1] per seed; all arms have the same disturbances.
      styles: from ``arm_styles``; by default made from the arms.

    Returns:
      A ``Figure`` with one axes.

    Raises:
      ValueError: no arm, or arms with other disturbances.
    """
    kinds = list(next(iter(arms.values()), {}))
    if not kinds or any(list(arm) != kinds for arm in arms.values()):
        raise ValueError(
            "robustness_bars takes arms that have the same disturbances, at least one."
        )
    styles = styles or arm_styles(list(arms))
    figure = Figure(figsize=(1.4 + 1.7 * len(kinds), 4.2), layout="constrained")
    axes = figure.subplots()
    width = 0.84 / len(arms)
    for place, (name, arm) in enumerate(arms.items()):
        values = np.array([list(arm[kind]) for kind in kinds], float)
        middle = values.mean(axis=1)
        reach = np.abs(np.stack([values.min(axis=1), values.max(axis=1)]) - middle)
        where = np.arange(len(kinds)) + (place - (len(arms) - 1) / 2) * width
        style = styles[name]
        axes.bar(
            where,
            middle,
            width,
            color=style.colour,
            hatch=style.hatch,
            edgecolor="white",
            linewidth=0,
            ecolor="#555555",
            yerr=reach,
            label=name,
        )
    axes.set_xticks(range(len(kinds)), kinds)
    axes.set_ylabel("test accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=None))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@styled
def speedup_against_flops(
    points: Mapping[str, Mapping[int, tuple[float, Sequence[float]]]],
    *,
    styles: Mapping[str, ArmStyle] | None = None,
) -> Figure:
    """How much faster training was, against how much faster the operations alone would make it.

    Args:
      points: for each kind of arm, for each number of blocks the dense network's operations over the ticket's,
        and the dense network's training time over the ticket's, one per seed.
      styles: from ``arm_styles``; by default made from the arms.

    Returns:
      A ``Figure`` with one axes: points on the line are as fast as their operations say.

    Raises:
      ValueError: there is nothing to draw.
    """
    if not any(points.values()):
        raise ValueError(
            "there is no point to draw; give at least one, {'grasp': {1: (1.1, [1.0])}}."
        )
    styles = styles or arm_styles(list(points))
    figure = Figure(figsize=(5.4, 4.4), layout="constrained")
    axes = figure.subplots()
    largest = 1.0
    for name, by_count in points.items():
        style = styles[name]
        for p, (flops, times) in sorted(by_count.items()):
            label = name if p == min(by_count) else None
            where = [flops] * len(times)
            axes.scatter(where, times, color=style.colour, marker=style.marker, s=24, label=label)
            largest = max(largest, flops)
    axes.plot(
        [1, largest],
        [1, largest],
        color="0.5",
        linewidth=1,
        linestyle=(0, (5, 2)),
        label="as operations say",
    )
    axes.set(xlabel="fewer operations, times", ylabel="faster training, times")
    axes.legend()
    return figure


def _accuracy_lines(
    curves: Mapping[str, Mapping[int, Sequence[float]]],
    dense: Sequence[float],
    level: float,
    styles: Mapping[str, ArmStyle] | None,
    *,
    xlabel: str,
    ylabel: str,
) -> Figure:
    """Mean accuracies over whole numbers, with bands, and the dense network's as a line; without a legend."""
    if not any(curves.values()):
        raise ValueError("there is no curve to draw; give at least one, {'grasp': {1: [0.9]}}.")
    styles = styles or arm_styles(["dense", *curves])
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for name, by_count in curves.items():
        counts, style = sorted(by_count), styles[name]
        middle, half = bands(name, [by_count[p] for p in counts], level)
        axes.plot(counts, middle, style.dash, color=style.colour, marker=style.marker, label=name)
        axes.fill_between(
            counts, middle - half, middle + half, color=style.colour, alpha=0.12, linewidth=0
        )
    axes.axhline(
        float(np.mean(dense)), color=styles["dense"].colour, linestyle=(0, (5, 2)), label="dense"
    )
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=None))
    return figure
