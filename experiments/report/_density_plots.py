"""Accuracy against density, and how alike sets are."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from experiments.report._style import ArmStyle, arm_styles, styled

Curves = Mapping[str, Mapping[float, Sequence[float]]]  # arm -> density -> one value a seed


@styled
def accuracy_against_density(
    panels: Mapping[str, Curves],
    *,
    level: float = 0.95,
    levels: Mapping[str, Sequence[float]] | None = None,
    styles: Mapping[str, ArmStyle] | None = None,
    ylabel: str = "test accuracy",
    ticks: Sequence[float] = (),
) -> Figure:
    """Mean accuracy over seeds with its t interval as a band, one panel for each group of arms.

    Args:
      panels: for each title, for each arm, for each density one accuracy in [0, 1] per seed.
      level: coverage of the bands; an arm with a single seed has none.
      levels: arms without a density, such as dense training, drawn as horizontal lines of their mean.
      styles: from ``arm_styles``; by default made from all arms.
      ylabel: name of the vertical axis.
      ticks: densities that are written below; by default all that there are.

    Returns:
      A ``Figure`` with one axes per panel; the panels have scales of their own.

    Raises:
      ValueError: there is nothing to draw, or a density without seeds.
    """
    flat = dict(levels or {})
    names = list(dict.fromkeys([*flat, *(arm for curves in panels.values() for arm in curves)]))
    if not any(panels.values()):
        raise ValueError(
            "there is no curve to draw; give at least one, {'random': {'set': {0.1: [0.9]}}}."
        )
    styles = styles or arm_styles(names)
    figure = Figure(figsize=(5.0 * len(panels) + 0.5, 4.6), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharex=True)[0]
    for axes, (title, curves) in zip(grid, panels.items(), strict=True):
        for name, by_density in curves.items():
            style = styles[name]
            densities = sorted(by_density)
            middle, half = bands(name, [by_density[d] for d in densities], level)
            axes.plot(
                densities, middle, style.dash, color=style.colour, marker=style.marker, label=name
            )
            low, high = np.maximum(middle - half, 0), np.minimum(middle + half, 1)
            axes.fill_between(densities, low, high, color=style.colour, alpha=0.12, linewidth=0)
        for name, values in flat.items():
            style = styles[name]
            mean = float(np.mean(values))
            axes.axhline(mean, color=style.colour, linestyle=(0, (5, 2)), label=name)
        axes.set(title=title, xlabel="density", xscale="log")
        there = sorted({d for by_density in curves.values() for d in by_density})
        axes.set_xticks([d for d in ticks if there[0] / 2 <= d <= there[-1] * 2] or there)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=None))
    grid[0].set_ylabel(ylabel)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@styled
def similarity_maps(
    maps: Mapping[str, ArrayLike], names: Sequence[str], *, chance: float | None = None
) -> Figure:
    """Jaccard indices of every two of several sets, in numbers and shades, one panel for each map.

    Args:
      maps: for each title a matrix [C, C] of values in [0, 1].
      names: C names of rows and columns.
      chance: the value that unrelated sets would have, named in the picture.

    Returns:
      A ``Figure`` with one axes per map, and one for the colours.

    Raises:
      ValueError: no map, or one that is no matrix of that size.
    """
    if not maps:
        raise ValueError("there is no map to draw; give at least one matrix.")
    count = len(names)
    size = 0.62 * count + 1.6
    figure = Figure(figsize=(size * len(maps) + 0.8, size), layout="constrained")
    grid = figure.subplots(1, len(maps), squeeze=False)[0]
    for place, (axes, (title, matrix)) in enumerate(zip(grid, maps.items(), strict=True)):
        values = np.asarray(matrix, float)
        if values.shape != (count, count):
            raise ValueError(
                f"{title}: a map of shape {values.shape} for {count} names; give [C, C]."
            )
        image = axes.imshow(values, vmin=0, vmax=1, cmap="cividis")
        for i in range(count):
            for j in range(count):
                shade = "white" if values[i, j] < 0.5 else "black"
                axes.text(
                    j, i, f"{values[i, j]:.2f}", ha="center", va="center", color=shade, fontsize=8
                )
        axes.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(count), names if place == 0 else [""] * count)
        axes.set_title(title)
        axes.grid(False)
    bar = figure.colorbar(image, ax=list(grid), shrink=0.8, label="Jaccard index")
    if chance is not None:
        bar.ax.axhline(chance, color="white", linewidth=2)
        bar.ax.axhline(chance, color="#D55E00", linewidth=1)
        bar.set_label(f"Jaccard index (line: chance, {chance:.2f})")
    return figure


def bands(
    name: str, rows: Sequence[Sequence[float]], level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each row and half of its t interval, 0 for a single value; ``name`` is for the error."""
    middle, half = [], []
    for values in rows:
        if not len(values):
            raise ValueError(f"{name}: a density has no value; leave it out.")
        numbers = np.asarray(values, float)
        middle.append(numbers.mean())
        n = len(numbers)
        spread = numbers.std(ddof=1) / np.sqrt(n) if n > 1 else 0.0
        half.append(float(stdtrit(n - 1, (1 + level) / 2)) * spread if n > 1 else 0.0)
    return np.array(middle), np.array(half)
