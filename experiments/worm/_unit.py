"""One arm with one cohort of seeds, from first epoch to result, resumable at any moment."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from experiments._folder import RunFolder
from experiments._progress import Phase, Progress
from experiments.training import Checkpoints, MetricsLog, take_seed
from experiments.worm._config import Arm
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

    def restore(self) -> tuple[Search | None, Retrain | None, int | None]:
        """Return where the unit stood, and the number of records then; Nones where it had not begun."""
        template = begin_search(self._setup.start_search(self._arm, self._seeds))
        later = begin_retrain(self._setup, template.ticket, self._seeds, [0] * len(self._seeds))
        found = self._stores["retrain"].restore((later.state, later.masks))
        if found:
            (state, masks), position = found
            self._before = _search_facts(position["search"])
            return (
                None,
                Retrain(state, masks, position["seconds"], _losses(position)),
                position["records"],
            )
        found = self._stores["search"].restore((template.state, template.ticket))
        if found:
            (state, ticket), position = found
            emerged = tuple(position["emerged_at"])
            start = Search(state, ticket, emerged, position["seconds"], _losses(position))
            return start, None, position["records"]
        return template, None, None

    def run(self, log: MetricsLog, started: Search | None, retraining: Retrain | None) -> None:
        """Run to the end and log one result record for each seed."""
        self._log = log
        setup, config = self._setup, self._setup.config
        if retraining is None:
            assert started is not None
            done = self._search(started)
            self._before = {
                "emerged_at": list(done.emerged_at),
                "search_seconds": done.seconds,
            }
            if self._dense or all(e is None for e in done.emerged_at):
                self._results(done.state.params, None, 0.0)
                return
            # beyond the end, where a seed without a ticket leaves no records
            at = [config.epochs + 1 if e is None else e for e in done.emerged_at]
            retraining = begin_retrain(setup, done.ticket, self._seeds, at)
            self._save_retrain(retraining)
        emerged = [e for e in self._before["emerged_at"] if e is not None]
        remaining = config.epochs - min(emerged)
        with self._phase("retrain", remaining) as phase:
            first = int(np.min(jax.device_get(retraining.state.epoch)))
            phase.advance(first - min(emerged))

            def after_epoch(now: Retrain, epochs: np.ndarray) -> None:
                phase.advance(loss=float(np.mean(now.losses)))
                if self._due():
                    self._save_retrain(now)

            end = retrain(
                setup,
                self._arm,
                self._seeds,
                retraining,
                log=self._log.write,
                after_epoch=after_epoch,
            )
        self._results(end.state.params, end.masks, end.seconds)

    def _search(self, start: Search) -> Search:
        config = self._setup.config
        epochs = config.epochs if self._dense else config.search_cap
        with self._phase("train" if self._dense else "search", epochs) as phase:
            phase.advance(int(start.state.epoch[0]))

            def after_epoch(now: Search, epoch: int) -> None:
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

    def _phase(self, name: str, epochs: int) -> Phase:
        seeds = self._seeds
        label = seeds[0] if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        return self._progress.phase(self._arm, name, seed=label, total=epochs)

    def _due(self) -> bool:
        return time.monotonic() - self._saved >= self._setup.config.checkpoint_seconds

    def _save_search(self, now: Search) -> None:
        position = {
            "records": self._log.sync(),
            "emerged_at": list(now.emerged_at),
            "seconds": now.seconds,
            "losses": _plain_losses(now.losses),
        }
        self._stores["search"].save((now.state, now.ticket), position)
        self._saved = time.monotonic()

    def _save_retrain(self, now: Retrain) -> None:
        position = {
            "records": self._log.sync(),
            "search": self._before,
            "seconds": now.seconds,
            "losses": _plain_losses(now.losses),
        }
        self._stores["retrain"].save((now.state, now.masks), position)
        self._saved = time.monotonic()

    def _results(self, params: PyTree, masks: PyTree | None, seconds: float) -> None:
        """Log what each seed came to; the epoch records hold the accuracies."""
        for i, seed in enumerate(self._seeds):
            self._log.write(
                {
                    "kind": "result",
                    "arm": self._arm,
                    "seed": seed,
                    "cohort": len(self._seeds),
                    "emerged_at": None if self._dense else self._before["emerged_at"][i],
                    "search_seconds": self._before["search_seconds"],
                    "retrain_seconds": seconds,
                    "weights": digest(take_seed(params, i)),
                }
            )
        self._log.sync()


def digest(tree: PyTree) -> str:
    """Return a SHA-256 of every array of a tree: equal texts are equal bits."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(tree)):
        total.update(np.ascontiguousarray(leaf).tobytes())
    return total.hexdigest()


def _search_facts(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {"emerged_at": list(stored["emerged_at"]), "search_seconds": stored["search_seconds"]}


def _plain_losses(losses: Sequence[float]) -> list[float | None]:
    return [None if np.isnan(x) else float(x) for x in losses]


def _losses(position: Mapping[str, Any]) -> tuple[float, ...]:
    return tuple(np.nan if x is None else x for x in position["losses"])
