"""The critical-difference diagram of mean ranks."""

from matplotlib.figure import Figure

from experiments.report._ranks import Ranks
from experiments.report._style import styled


def cliques(ranks: Ranks) -> list[tuple[int, int]]:
    """Return the longest runs of methods, by first and last place, that the test does not tell apart.

    Example:
      >>> cliques(Ranks(("a", "b", "c"), (1.0, 1.5, 2.9), 9, 5.0, 0.1, 1.0, 0.95))
      [(0, 1)]
    """
    found: list[tuple[int, int]] = []
    count = len(ranks.names)
    for first in range(count):
        last = first
        while (
            last + 1 < count
            and ranks.mean_ranks[last + 1] - ranks.mean_ranks[first] < ranks.critical_distance
        ):
            last += 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


@styled
def critical_difference(ranks: Ranks, *, title: str = "Mean ranks") -> Figure:
    """Methods on a line of mean ranks, best at the left; a bar joins those that are not told apart.

    Args:
      ranks: from ``friedman``.
      title: the picture's title.

    Returns:
      A ``Figure`` with one axes.
    """
    count = len(ranks.names)
    joined = cliques(ranks)
    rows = (count + 1) // 2
    figure = Figure(figsize=(8.0, 1.5 + 0.28 * rows + 0.14 * len(joined)), layout="constrained")
    axes = figure.subplots()
    axes.set_title(
        f"{title}: {ranks.blocks} settings, p = {ranks.p_value:.2g}, "
        f"critical difference {ranks.critical_distance:.2f}"
    )
    depth = 0.4 * len(joined) + 1
    axes.set(xlim=(0.4, count + 0.6), ylim=(-depth - rows, 1.2))
    axes.axis("off")
    axes.hlines(0, 1, count, color="#333333", linewidth=1.2)
    for tick in range(1, count + 1):
        axes.vlines(tick, 0, 0.15, color="#333333", linewidth=1.2)
        axes.text(tick, 0.25, str(tick), ha="center", va="bottom", fontsize=9)
    axes.hlines(0.95, 1, 1 + ranks.critical_distance, color="#777777", linewidth=1.5)
    for place, (name, rank) in enumerate(zip(ranks.names, ranks.mean_ranks, strict=True)):
        left = place < rows
        level = -depth - (place if left else count - 1 - place)
        side, align = (0.9, "right") if left else (count + 0.1, "left")
        axes.plot([rank, rank, side], [0, level, level], color="#0072B2", linewidth=1)
        axes.text(side, level, f" {name} ({rank:.2f}) ", ha=align, va="center", fontsize=9)
    for row, (first, last) in enumerate(joined):
        ends = ranks.mean_ranks[first] - 0.05, ranks.mean_ranks[last] + 0.05
        axes.hlines(-0.4 * (row + 1), *ends, color="#111111", linewidth=3.5)
    return figure
