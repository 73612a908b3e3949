"""The records of a run, by arm and seed."""

from collections.abc import Sequence

import numpy as np

from experiments._history import Record, RunHistory
from experiments.early_bird._trials import Trial
from experiments.training import mask_from_text


class History(RunHistory):
    """What was recorded so far.

    Args:
      records: from ``metrics.jsonl``.
      ratios: the run's prune ratios, in order.
    """

    def __init__(self, records: Sequence[Record], ratios: Sequence[float]):
        super().__init__(records)
        self._ratios = list(ratios)

    def place(self, ratio: float) -> int:
        """Where a ratio stands in what the detectors recorded."""
        return self._ratios.index(ratio)

    def emerged_at(self, ratio: float, seed: int) -> int | None:
        """The dense epochs before the ticket, None where none emerged or the training is not over."""
        result = self.result("dense", seed)
        return None if result is None else result["emerged_at"][self.place(ratio)]

    def drawn_at(self, trial: Trial, seeds: Sequence[int], epochs: int) -> list[int | None]:
        """Return for each seed the dense epochs before the trial's draw."""
        return trial.drawn_at([self.emerged_at(trial.ratio, seed) for seed in seeds], epochs)

    def mask(self, ratio: float, seed: int, epoch: int, size: int) -> np.ndarray:
        """Return the flat mask that the dense network's scales implied after an epoch."""
        return mask_from_text(self.epochs("dense", seed)[epoch]["mask"][self.place(ratio)], size)
