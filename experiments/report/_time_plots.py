"""Accuracy against the time that a network takes."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from experiments.report._style import ArmStyle, arm_styles, styled


@styled
def accuracy_against_time(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    dense: float,
    styles: Mapping[str, ArmStyle] | None = None,
    xlabel: str = "time of a forward pass, share of the dense network's",
    ylabel: str = "test accuracy",
) -> Figure:
    """The networks of each way of pruning, and the dense network at time 1.

    Args:
      curves: for each name pairs of a time, as a share of the dense network's, and an accuracy in [0, 1].
      dense: accuracy of the dense network.
      styles: from ``arm_styles``; by default made from the names.
      xlabel: name of the horizontal axis.
      ylabel: name of the vertical axis.

    Returns:
      A ``Figure`` with one axes.

    Raises:
      ValueError: no curve.
    """
    if not curves:
        raise ValueError("there is no curve to draw; give at least one, {'refill': [(0.5, 0.9)]}.")
    styles = styles or arm_styles(["dense", *curves])
    figure = Figure(figsize=(5.6, 4.6), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        style = styles[name]
        times, accuracies = zip(*points, strict=True)
        # no line: times are noisy, and one would run to and fro
        axes.plot(
            times, accuracies, color=style.colour, marker=style.marker, linestyle="", label=name
        )
    axes.plot([1.0], [dense], color=styles["dense"].colour, marker="o", linestyle="", label="dense")
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, None))
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=None))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=None))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure
