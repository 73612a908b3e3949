"""What a mask leaves of each layer, and the eigenvalues of kernels."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.report._style import ArmStyle, arm_styles, styled


@styled
def layer_densities(
    panels: Mapping[str, Mapping[str, Mapping[str, float]]],
    *,
    styles: Mapping[str, ArmStyle] | None = None,
) -> Figure:
    """Density of every layer, one line an arm, one panel for each group; an emptied layer is marked at the foot.

    Args:
      panels: for each title, for each arm, for each layer its density.
      styles: from ``arm_styles``; by default made from all arms.

    Returns:
      A ``Figure`` with one axes per panel.

    Raises:
      ValueError: there is nothing to draw.
    """
    names = list(dict.fromkeys(arm for arms in panels.values() for arm in arms))
    if not names:
        raise ValueError("there are no layers to draw; give at least one panel with one arm.")
    styles = styles or arm_styles(names)
    figure = Figure(figsize=(4.2 * len(panels) + 0.5, 4.6), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (title, arms) in zip(grid, panels.items(), strict=True):
        positive = [d for layers in arms.values() for d in layers.values() if d > 0]
        foot = 0.5 * min(positive, default=1e-3)
        for name, layers in arms.items():
            values = np.asarray(list(layers.values()), float)
            places = np.arange(len(values))
            style = styles[name]
            shown = np.where(values > 0, values, foot)
            axes.plot(
                places, shown, style.dash, color=style.colour, marker=style.marker, label=name
            )
            empty = values == 0
            axes.plot(places[empty], shown[empty], "x", color=style.colour, markersize=9)
        labels = list(next(iter(arms.values())))
        axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right", fontsize=7)
        axes.set(title=title, yscale="log")
    grid[0].set_ylabel("density of the layer (cross: emptied)")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


@styled
def eigenvalue_lines(
    spectra: Mapping[str, Sequence[float]], *, styles: Mapping[str, ArmStyle] | None = None
) -> Figure:
    """Eigenvalues in falling order, one line an arm.

    Args:
      spectra: for each arm its eigenvalues, the largest first; what is not positive is left out.
      styles: from ``arm_styles``; by default made from the arms.

    Returns:
      A ``Figure`` of one axes.

    Raises:
      ValueError: there is nothing to draw.
    """
    if not spectra:
        raise ValueError("there is no spectrum to draw; give at least one list of eigenvalues.")
    styles = styles or arm_styles(list(spectra))
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.subplots()
    for name, values in spectra.items():
        falling = np.asarray(values, float)
        # what float32 makes of zero is no eigenvalue
        falling = falling[falling > 1e-6 * max(falling.max(initial=0.0), 1e-300)]
        style = styles[name]
        axes.plot(
            np.arange(1, len(falling) + 1), falling, style.dash, color=style.colour, label=name
        )
    axes.set(xlabel="index", ylabel="eigenvalue", xscale="log", yscale="log")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure
