"""One arm with one cohort of seeds, from first epoch to result, resumable at any moment."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments._folder import RunFolder
from experiments._progress import Phase, Progress
from experiments.training import Checkpoints, MetricsLog, take_seed
from experiments.worm._config import Arm
from experiments.worm._digest import digest
from experiments.worm._retrain import Retrain, begin_retrain, retrain
from experiments.worm._search import Search, begin_search, search
from experiments.worm._setup import Setup


class Unit:
    """Runs one arm and cohort: search, draw, prune, retrain; a dense arm only trains.

    Its checkpoints hold everything that training changes and how many records had been written; what a kill
    lost is computed again, to the same bits on CPU.
    """

    def __init__(
        self,
        setup: Setup,
        folder: RunFolder,
        progress: Progress,
        arm: Arm,
        seeds: Sequence[int],
    ):
        self._setup, self._progress = setup, progress
        self._arm, self._seeds = arm, list(seeds)
        self._dense = arm == "dense"
        name = f"{arm}-{seeds[0]}"
        fingerprint = {"config": folder.provenance()["config"], "arm": arm, "seeds": self._seeds}
        self._stores = {
            phase: Checkpoints(folder.checkpoints / f"{name}-{phase}", fingerprint)
            for phase in ("search", "retrain")
        }
        self._saved = time.monotonic()

    def restore(self) -> tuple[Search | Retrain, int | None]:
        """Return where the unit stood and the number of records then, or its beginning and None.

        Raises:
          CheckpointError: its checkpoint is damaged, or of another run.
        """
        fresh = begin_search(self._setup.start_search(self._arm, self._seeds))
        drawn, nowhere = fresh.ticket, [0] * len(self._seeds)
        later = self._setup.start_retrain(drawn.params, drawn.stats, self._seeds, nowhere)
        found = self._stores["retrain"].restore((later, drawn.masks))
        if found:
            (state, masks), position = found
            return Retrain(state, masks, **_read(position)), position["records"]
        found = self._stores["search"].restore((fresh.state, fresh.ticket))
        if found:
            (state, ticket), position = found
            return Search(state, ticket, **_read(position)), position["records"]
        return fresh, None

    def run(self, log: MetricsLog, start: Search | Retrain) -> None:
        """Run to the end and log one result record for each seed.

        Raises:
          ValueError: a score or a loss was not finite, or a pruned entry moved; the arm has failed.
        """
        self._log = log
        if isinstance(start, Search):
            found = self._search(start)
            if self._dense or all(e is None for e in found.emerged_at):
                params = found.state.params
                weights = [digest(take_seed(params, i)) for i in range(len(self._seeds))]
                self._results(found.emerged_at, found.seconds, 0.0, weights)
                return
            start = begin_retrain(self._setup, found, self._seeds)
            self._save_retrain(start)
        end = self._retrain(start)
        self._results(end.emerged_at, end.search_seconds, end.seconds, end.weights)

    def _search(self, start: Search) -> Search:
        config = self._setup.config
        epochs = config.epochs if self._dense else config.search_cap
        with self._phase("train" if self._dense else "search", epochs) as phase:
            phase.advance(int(start.state.epoch[0]))

            def after_epoch(now: Search) -> None:
                phase.advance(loss=float(np.mean(now.losses)))
                if self._due():
                    self._save_search(now)

            return search(
                self._setup,
                self._arm,
                self._seeds,
                start,
                stop=not self._dense,
                epochs=epochs,
                log=self._log.write,
                after_epoch=after_epoch,
            )

    def _retrain(self, start: Retrain) -> Retrain:
        drawn = min(e for e in start.emerged_at if e is not None)
        with self._phase("retrain", self._setup.config.epochs - drawn) as phase:
            phase.advance(int(np.min(jax.device_get(start.state.epoch))) - drawn)

            def after_epoch(now: Retrain) -> None:
                phase.advance(loss=float(np.mean(now.losses)))
                if self._due():
                    self._save_retrain(now)

            return retrain(
                self._setup,
                self._arm,
                self._seeds,
                start,
                log=self._log.write,
                after_epoch=after_epoch,
            )

    def _phase(self, name: str, epochs: int) -> Phase:
        seeds = self._seeds
        label = seeds[0] if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        return self._progress.phase(self._arm, name, seed=label, total=epochs)

    def _due(self) -> bool:
        return time.monotonic() - self._saved >= self._setup.config.checkpoint_seconds

    def _save_search(self, now: Search) -> None:
        position = {
            "emerged_at": list(now.emerged_at),
            "seconds": now.seconds,
            "losses": _plain_losses(now.losses),
        }
        self._save("search", (now.state, now.ticket), position)

    def _save_retrain(self, now: Retrain) -> None:
        position = {
            "emerged_at": list(now.emerged_at),
            "search_seconds": now.search_seconds,
            "seconds": now.seconds,
            "losses": _plain_losses(now.losses),
            "weights": list(now.weights),
        }
        self._save("retrain", (now.state, now.masks), position)

    def _save(self, phase: str, tree: Any, position: dict[str, Any]) -> None:
        self._stores[phase].save(tree, {"records": self._log.sync(), **position})
        self._saved = time.monotonic()

    def _results(
        self,
        emerged_at: Sequence[int | None],
        search_seconds: float,
        retrain_seconds: float,
        weights: Sequence[str | None],
    ) -> None:
        """Log what each seed came to; the epoch records hold the accuracies."""
        for seed, emerged, bits in zip(self._seeds, emerged_at, weights, strict=True):
            self._log.write(
                {
                    "kind": "result",
                    "arm": self._arm,
                    "seed": seed,
                    "cohort": len(self._seeds),
                    "outcome": self._outcome(emerged),
                    "emerged_at": None if self._dense else emerged,
                    "search_seconds": search_seconds,
                    "retrain_seconds": retrain_seconds,
                    "weights": bits,
                }
            )
        self._log.sync()

    def _outcome(self, emerged: int | None) -> str:
        if self._dense:
            return "trained"
        return "no_ticket" if emerged is None else "ticket"


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
