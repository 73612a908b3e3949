"""Ranking units, and removing the fewest of them that meet a budget."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Float, Int

Units = Mapping[str, Float[np.ndarray, " _"]]
Stairs = Mapping[str, Int[np.ndarray, " _"]]
Widths = dict[str, int]


class Ranking:
    """The order in which units go: the least score first, whatever their group.

    Of equal scores the one that comes last goes first. The best ``minimum`` units of a group never go.

    Args:
      units: for each group one score a unit.
      stairs: for each group the widths that it may have.
      minimum: units that every group keeps.

    Attributes:
      most: how many units may go.
    """

    def __init__(self, units: Units, stairs: Stairs, minimum: int):
        self._units, self._stairs = units, stairs
        groups = np.repeat(np.arange(len(units)), [len(u) for u in units.values()])
        scores = np.concatenate(list(units.values()))
        # a few thousand numbers on the host, one a unit
        order = groups[np.lexsort((-np.arange(len(scores)), scores))]
        may_go = np.ones(len(order), bool)
        for group in range(len(units)):
            may_go[np.flatnonzero(order == group)[-minimum:]] = False
        self._order = order[may_go]
        self.most = len(self._order)

    def widths(self, removed: int) -> Widths:
        """Return what each group keeps when the first ``removed`` units go, rounded up."""
        gone = np.bincount(self._order[:removed], minlength=len(self._units))
        sizes = zip(self._units.items(), gone, strict=True)
        return rounded(self._stairs, {name: len(u) - int(n) for (name, u), n in sizes})

    def within(self, fits: Callable[[Widths], bool]) -> Widths | None:
        """Return the widths after the fewest removals that fit, or None where none do.

        Args:
          fits: whether widths are narrow enough; narrower ones always are, too.
        """
        if not fits(self.widths(self.most)):
            return None
        low, high = 0, self.most
        while low < high:
            middle = (low + high) // 2
            if fits(self.widths(middle)):
                high = middle
            else:
                low = middle + 1
        return self.widths(high)


def rounded(stairs: Stairs, wanted: Mapping[str, int]) -> Widths:
    """Return the widths that groups get where certain ones are wanted."""
    return {name: int(stairs[name][width]) for name, width in wanted.items()}


def best(scores: Float[np.ndarray, " units"], count: int) -> Bool[np.ndarray, " units"]:
    """Return the mask of the ``count`` best units; of equal scores the first stay."""
    kept = np.ones(len(scores), bool)
    kept[np.lexsort((-np.arange(len(scores)), scores))[: len(scores) - count]] = False
    return kept
