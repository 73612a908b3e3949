"""Where a unit stands, on the disk: its checkpoints and how many records had been written."""

from collections.abc import Sequence

from experiments._folder import RunFolder
from experiments.channels import UnitStore
from experiments.training import MetricsLog
from experiments.worm._retrain import Retrain
from experiments.worm._search import Search

_ARRAYS = {"state", "ticket", "masks"}  # saved as a tree; what is left are plain fields


class Saved:
    """The checkpoints of one arm and cohort, of the search and of the retraining.

    Args:
      folder: the run's folder.
      arm: the arm.
      seeds: its seeds.
      every: seconds between checkpoints.
    """

    def __init__(self, folder: RunFolder, arm: str, seeds: Sequence[int], every: float):
        self._store = UnitStore(folder, arm, seeds, every, ("search", "retrain"))

    @property
    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return self._store.due

    def search(self, fresh: Search) -> tuple[Search, int | None]:
        """Return where the search stood and the number of records then, or its beginning and None.

        Raises:
          CheckpointError: its checkpoint is damaged, or of another run.
        """
        found = self._store.restore("search", (fresh.state, fresh.ticket))
        if not found:
            return fresh, None
        (state, ticket), fields, records = found
        return Search(state, ticket, **fields), records

    def retrain(self, like: Retrain) -> tuple[Retrain, int] | None:
        """Return where the retraining stood and the number of records then, or None.

        Args:
          like: a retraining of the same shapes.

        Raises:
          CheckpointError: its checkpoint is damaged, or of another run.
        """
        found = self._store.restore("retrain", (like.state, like.masks))
        if not found:
            return None
        (state, masks), fields, records = found
        return Retrain(like.network, state, masks, **fields), records

    def save_search(self, now: Search, log: MetricsLog) -> None:
        """Write a checkpoint of the search; the records count as written."""
        fields = {k: v for k, v in now._asdict().items() if k not in _ARRAYS}
        self._store.save("search", (now.state, now.ticket), fields, log)

    def save_retrain(self, now: Retrain, log: MetricsLog) -> None:
        """Write a checkpoint of the retraining; the records count as written."""
        fields = {k: v for k, v in now._asdict().items() if k not in {"network", *_ARRAYS}}
        self._store.save("retrain", (now.state, now.masks), fields, log)
