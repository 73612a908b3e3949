"""What iterative pruning leaves: a level for each round, and the point that weights go back to."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Bool, PyTree

from wormjax.lottery._network import Network, Stretch
from wormjax.lottery._retraining import Mode


@dataclasses.dataclass(frozen=True, eq=False)
class Level:
    """One round of iterative pruning; round 0 is the dense network.

    Attributes:
      round: its number.
      masks: mask tree that it was trained under.
      trained: the network at its end, pruned entries exactly zero.
      stretch: the steps and rates that it was trained with.
      kept: weights that the masks keep, by path of the leaves that may be pruned.
      sizes: all weights of these leaves.
      measured: what ``evaluate`` returned.
    """

    round: int
    masks: PyTree[Bool[Array, "..."]]
    trained: Network
    stretch: Stretch
    kept: Mapping[str, int]
    sizes: Mapping[str, int]
    measured: Mapping[str, Any]

    @property
    def density(self) -> float:
        """Fraction of the prunable weights that are kept."""
        return sum(self.kept.values()) / sum(self.sizes.values())

    @property
    def layer_densities(self) -> dict[str, float]:
        """The same, leaf by leaf."""
        return {name: self.kept[name] / size for name, size in self.sizes.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class Levels:
    """All rounds of a run.

    Attributes:
      levels: in order; the dense one first.
      initial: the network before any training.
      rewound: the network at the rewinding point: the initial one in mode ``init``, and where weights are kept.
      mode: how each round was trained again.
    """

    levels: tuple[Level, ...]
    initial: Network
    rewound: Network
    mode: Mode

    def __iter__(self):
        return iter(self.levels)

    def __len__(self) -> int:
        return len(self.levels)

    def __getitem__(self, round: int) -> Level:
        return self.levels[round]
