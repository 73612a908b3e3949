"""The part that runs of an experiment whose arms train with one seed after another, each by itself."""

import abc
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from experiments._folder import RunFolder
from experiments._progress import Progress
from experiments._units import Begun, run_units
from experiments.training import MetricsLog


class Unit(Protocol):
    """An arm and a seed, with a checkpoint of its own."""

    def restore(self) -> tuple[Any, int | None]:
        """Where to begin, and how many records the checkpoint knows of; None for no checkpoint."""

    def run(self, log: MetricsLog, start: Any, /) -> None:
        """Go on from there to the end, results and all."""


class Named(Protocol):
    """An arm."""

    @property
    def name(self) -> str:
        """What records and checkpoints call it."""


A = TypeVar("A", bound=Named)


class ArmsJob(abc.ABC, Generic[A]):
    """Runs every arm with every seed; how one of them trains, and what is told of all, the experiment says.

    Args:
      arms: in the order in which they run.
      seeds: of each of them.
    """

    def __init__(self, arms: Sequence[A], seeds: Sequence[int]):
        self._arms = {arm.name: arm for arm in arms}
        self._seeds = seeds

    @property
    def phases(self) -> int:
        """How many phases the progress display will show."""
        return len(self._arms) * len(self._seeds)

    @abc.abstractmethod
    def units(self, folder: RunFolder, progress: Progress) -> Callable[[A, int], Unit]:
        """Return what makes the unit of an arm and a seed, called when its turn has come."""

    def run(self, folder: RunFolder, progress: Progress) -> dict[str, str]:
        """Run every arm and seed that is not over yet, as `run_units` does; return why arms failed.

        Raises:
          FolderError: the records cannot be read.
          CheckpointError: a checkpoint is damaged, or there are fewer records than it knows of.
        """
        unit = self.units(folder, progress)

        def begin(arm: str, seeds: Sequence[int]) -> Begun:
            [seed] = seeds
            made = unit(self._arms[arm], seed)
            start, position = made.restore()
            return position, lambda log: made.run(log, start)

        each = [(arm, [seed]) for arm in self._arms for seed in self._seeds]
        return run_units(folder, progress, each, begin)
