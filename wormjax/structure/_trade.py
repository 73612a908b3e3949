"""Giving up units for time: the least score per microsecond saved goes first."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from wormjax.structure._budget import Units
from wormjax.structure._dims import Dim
from wormjax.structure._groups import Group
from wormjax.structure._latency import Latency


class Step(NamedTuple):
    """A block of units that a group may give up next.

    Attributes:
      price: the score that is lost for each second saved.
      width: what the group would keep.
    """

    price: float
    width: int


def trade(
    latency: Latency,
    groups: Sequence[Group],
    units: Units,
    stairs: Mapping[str, np.ndarray],
    budget: float,
) -> dict[str, int] | None:
    """Remove blocks of units, the cheapest first, until the modelled time is within a budget.

    A block is what takes a group from its width to any lower one that it may have; so a width that costs more than
    the one below it is passed over. Prices are worked out again for the groups that share a contraction with the one
    that has just become narrower.

    Args:
      latency: the model.
      groups: the groups that may lose units.
      units: their scores.
      stairs: the widths that they may have.
      budget: seconds.

    Returns:
      The width of each group, or None where the budget is out of reach.
    """
    lost = {name: np.concatenate([[0.0], np.cumsum(np.sort(u))]) for name, u in units.items()}
    widths = {group.name: int(stairs[group.name][group.size]) for group in groups}
    counts: dict[Dim, int] = {}

    def next_step(group: Group) -> Step | None:
        now = widths[group.name]
        allowed = np.unique(stairs[group.name])
        allowed = allowed[allowed <= now]
        seconds = latency.of_group(group, allowed, counts)
        saved = seconds[-1] - seconds[:-1]
        gone = lost[group.name][group.size - allowed]
        prices = np.full(len(saved), np.inf)
        np.divide(gone[:-1] - gone[-1], saved, out=prices, where=saved > 0)
        if not len(prices) or np.isinf(prices.min()):
            return None
        # of equal prices the smallest block
        best = len(prices) - 1 - int(np.argmin(prices[::-1]))
        return Step(float(prices[best]), int(allowed[best]))

    steps = {group.name: next_step(group) for group in groups}
    by_name = {group.name: group for group in groups}
    while latency.total(counts) > budget:
        open_steps = {name: step for name, step in steps.items() if step is not None}
        if not open_steps:
            return None
        name = min(open_steps, key=lambda n: open_steps[n].price)
        group = by_name[name]
        widths[name] = counts[group.atom] = open_steps[name].width
        for near in latency.neighbours(group, groups):
            steps[near.name] = next_step(near)
    return widths
