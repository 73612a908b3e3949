"""Masks as pictures: which output channel reads which input."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from experiments.report._style import styled


@styled
def mask_pictures(masks: Mapping[str, ArrayLike], *, xlabel: str, ylabel: str) -> Figure:
    """Draw matrices of the same rows side by side; dark is kept.

    Args:
      masks: for each title a matrix of fractions that are kept, in [0, 1].
      xlabel: what the columns are.
      ylabel: what the rows are.

    Returns:
      A ``Figure`` with one axes for each.

    Raises:
      ValueError: no matrix.
    """
    if not masks:
        raise ValueError("there is no mask to draw; give at least one matrix.")
    figure = Figure(figsize=(3.6 * len(masks) + 0.4, 4.0), layout="constrained")
    grid = figure.subplots(1, len(masks), squeeze=False)[0]
    for axes, (title, mask) in zip(grid, masks.items(), strict=True):
        values = np.asarray(mask, float)
        axes.imshow(values, vmin=0, vmax=1, cmap="Blues", interpolation="nearest", aspect="auto")
        axes.set(title=title, xlabel=xlabel)
        axes.grid(False)
    grid[0].set_ylabel(ylabel)
    return figure
