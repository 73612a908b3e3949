"""The checkpoints of one arm and cohort, phase by phase, and when the next one is due."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import PyTree

from experiments._folder import RunFolder
from experiments.training import Checkpoints, MetricsLog


class UnitStore:
    """Where a unit stands, on the disk: a tree of arrays, its plain fields, the records then written.

    Args:
      folder: the run's folder.
      arm: the arm.
      seeds: its seeds.
      every: seconds between checkpoints.
      phases: what is saved apart.
    """

    def __init__(
        self,
        folder: RunFolder,
        arm: str,
        seeds: Sequence[int],
        every: float,
        phases: Sequence[str],
    ):
        fingerprint = {
            "config": folder.provenance()["config"],
            "arm": arm,
            "seeds": list(seeds),
        }
        self._stores = {
            phase: Checkpoints(folder.checkpoints / f"{arm}-{seeds[0]}-{phase}", fingerprint)
            for phase in phases
        }
        self._every, self._last = every, time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return time.monotonic() - self._last >= self._every

    def restore(self, phase: str, like: PyTree) -> tuple[PyTree, dict[str, Any], int] | None:
        """Return the arrays, the fields as they went in, and the number of records then; or None.

        Raises:
          CheckpointError: the checkpoint is damaged, or of another run.
        """
        found = self._stores[phase].restore(like)
        if not found:
            return None
        tree, position = found
        fields = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in position.items()
            if name != "records"
        }
        if "losses" in fields:
            fields["losses"] = tuple(np.nan if x is None else x for x in fields["losses"])
        return tree, fields, position["records"]

    def save(self, phase: str, tree: PyTree, fields: Mapping[str, Any], log: MetricsLog) -> None:
        """Write a checkpoint; the records count as written.

        Args:
          phase: one of the phases.
          tree: the arrays.
          fields: numbers, texts and tuples of them; ``losses`` may hold NaN.
          log: the records.
        """
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
        if "losses" in plain:
            plain["losses"] = [float(x) if np.isfinite(x) else None for x in plain["losses"]]
        self._stores[phase].save(tree, {"records": log.sync(), **plain})
        self._last = time.monotonic()
