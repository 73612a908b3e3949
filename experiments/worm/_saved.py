"""Where a unit stands, on the disk: its checkpoints and how many records had been written."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments._folder import RunFolder
from experiments.training import Checkpoints, MetricsLog
from experiments.worm._retrain import Retrain
from experiments.worm._search import Search


class Saved:
    """The checkpoints of one arm and cohort, of the search and of the retraining.

    Args:
      folder: the run's folder.
      arm: the arm.
      seeds: its seeds.
      every: seconds between checkpoints.
    """

    def __init__(self, folder: RunFolder, arm: str, seeds: Sequence[int], every: float):
        fingerprint = {
            "config": folder.provenance()["config"],
            "arm": arm,
            "seeds": list(seeds),
        }
        self._stores = {
            phase: Checkpoints(folder.checkpoints / f"{arm}-{seeds[0]}-{phase}", fingerprint)
            for phase in ("search", "retrain")
        }
        self._every, self._last = every, time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return time.monotonic() - self._last >= self._every

    def search(self, fresh: Search) -> tuple[Search, int | None]:
        """Return where the search stood and the number of records then, or its beginning and None.

        Raises:
          CheckpointError: its checkpoint is damaged, or of another run.
        """
        found = self._stores["search"].restore((fresh.state, fresh.ticket))
        if not found:
            return fresh, None
        (state, ticket), position = found
        return Search(state, ticket, **_read(position)), position["records"]

    def retrain(self, like: Retrain) -> tuple[Retrain, int] | None:
        """Return where the retraining stood and the number of records then, or None.

        Args:
          like: a retraining of the same shapes.

        Raises:
          CheckpointError: its checkpoint is damaged, or of another run.
        """
        found = self._stores["retrain"].restore((like.state, like.masks))
        if not found:
            return None
        (state, masks), position = found
        return Retrain(like.network, state, masks, **_read(position)), position["records"]

    def save_search(self, now: Search, log: MetricsLog) -> None:
        """Write a checkpoint of the search; the records count as written."""
        position = {
            "emerged_at": list(now.emerged_at),
            "seconds": now.seconds,
            "losses": _plain_losses(now.losses),
            "ended": now.ended,
        }
        self._save("search", (now.state, now.ticket), position, log)

    def save_retrain(self, now: Retrain, log: MetricsLog) -> None:
        """Write a checkpoint of the retraining; the records count as written."""
        position = {
            "emerged_at": list(now.emerged_at),
            "search_seconds": now.search_seconds,
            "seconds": now.seconds,
            "losses": _plain_losses(now.losses),
            "weights": list(now.weights),
            "share": now.share,
        }
        self._save("retrain", (now.state, now.masks), position, log)

    def _save(self, phase: str, tree: Any, position: dict[str, Any], log: MetricsLog) -> None:
        self._stores[phase].save(tree, {"records": log.sync(), **position})
        self._last = time.monotonic()


def _read(position: Mapping[str, Any]) -> dict[str, Any]:
    """Return a position's fields as `Search` and `Retrain` hold them."""
    fields = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in position.items()
        if name != "records"
    }
    return {**fields, "losses": tuple(np.nan if x is None else x for x in position["losses"])}


def _plain_losses(losses: Sequence[float]) -> list[float | None]:
    return [float(x) if np.isfinite(x) else None for x in losses]
