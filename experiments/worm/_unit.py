"""One arm with one cohort of seeds, from first epoch to result, resumable at any moment."""

import contextlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments._folder import RunFolder
from experiments._progress import Phase, Progress
from experiments.training import MetricsLog, digest, take_seed
from experiments.worm._config import Arm
from experiments.worm._retrain import Retrain, begin_retrain, begin_shrunk, retrain
from experiments.worm._saved import Saved
from experiments.worm._search import Search, begin_search, search
from experiments.worm._setup import Setup
from experiments.worm._shrunk import Shrunk, shrink_ticket
from experiments.worm._speed import SpeedTest


class Unit:
    """Runs one arm and cohort: search, draw, time, prune, retrain; a dense arm only trains.

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
        self._shrinks = setup.config.retrain == "shrunk" and not self._dense
        self._saved = Saved(folder, arm, seeds, setup.config.checkpoint_seconds)

    def restore(self) -> tuple[Search | Retrain, int | None]:
        """Return where the unit stood and the number of records then, or its beginning and None.

        Raises:
          CheckpointError: its checkpoint is damaged, or of another run.
        """
        fresh = begin_search(self._setup.start_search(self._arm, self._seeds))
        if not self._shrinks:
            nowhere = (0,) * len(self._seeds)
            like = begin_retrain(self._setup, fresh._replace(emerged_at=nowhere), self._seeds)
            return self._saved.retrain(like) or self._saved.search(fresh)
        # the shapes of a shrunk retraining are those of the ticket, which was saved before it
        reached = self._saved.search(fresh)
        if reached[0].ended and None not in reached[0].emerged_at:
            with contextlib.suppress(ValueError):  # it comes again in `run`, and is recorded there
                return (
                    self._saved.retrain(self._begin(reached[0], self._shrink(reached[0])))
                    or reached
                )
        return reached

    def run(self, log: MetricsLog, start: Search | Retrain, speed: SpeedTest | None = None) -> None:
        """Run to the end and log one result record for each seed.

        Args:
          log: takes the records.
          start: from `restore`.
          speed: times a ticket once it is drawn; None leaves that out.

        Raises:
          ValueError: a score or a loss was not finite, a pruned entry moved, or a ticket that was to be retrained
            shrunk cannot be; the arm has failed.
        """
        self._log = log
        if isinstance(start, Search):
            found = start if start.ended else self._search(start)
            if self._dense or all(e is None for e in found.emerged_at):
                params = found.state.params
                weights = [digest(take_seed(params, i)) for i in range(len(self._seeds))]
                self._results(found.emerged_at, found.seconds, 0.0, weights)
                return
            small: Shrunk | None = None
            if self._shrinks:
                self._saved.save_search(found, log)
                small = self._shrink(found)
            if speed is not None:
                self._time(speed, found, small)
            start = self._begin(found, small)
            self._saved.save_retrain(start, log)
        end = self._retrain(start)
        self._results(end.emerged_at, end.search_seconds, end.seconds, end.weights, end.share)

    def _shrink(self, found: Search) -> Shrunk:
        return shrink_ticket(self._setup, self._arm, found, _first_drawn(found))

    def _begin(self, found: Search, small: Shrunk | None) -> Retrain:
        if small is None:
            return begin_retrain(self._setup, found, self._seeds)
        return begin_shrunk(self._setup, found, self._seeds, small)

    def _time(self, speed: SpeedTest, found: Search, small: Shrunk | None) -> None:
        """Log what a ticket costs by the clock, or why that is not known."""
        seed = self._seeds[_first_drawn(found)]
        with self._progress.phase(
            self._arm, "shrink and time", seed=seed, total=1, unit="tickets"
        ) as phase:
            try:
                record = speed.record(self._arm, seed, small or self._shrink(found))
            except ValueError as error:
                record = {"kind": "speed", "arm": self._arm, "seed": seed, "why": str(error)}
            self._log.write(record)
            phase.advance()

    def _search(self, start: Search) -> Search:
        config = self._setup.config
        epochs = config.epochs if self._dense else config.search_cap
        with self._phase("train" if self._dense else "search", epochs) as phase:
            phase.advance(int(start.state.epoch[0]))

            def after_epoch(now: Search) -> None:
                phase.advance(loss=float(np.mean(now.losses)))
                if self._saved.due:
                    self._saved.save_search(now, self._log)

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
                if self._saved.due:
                    self._saved.save_retrain(now, self._log)

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

    def _results(
        self,
        emerged_at: Sequence[int | None],
        search_seconds: float,
        retrain_seconds: float,
        weights: Sequence[str | None],
        share: float = 1.0,
    ) -> None:
        """Log what each seed came to; the epoch records hold the accuracies."""
        for seed, emerged, bits in zip(self._seeds, emerged_at, weights, strict=True):
            record: dict[str, Any] = {
                "kind": "result",
                "arm": self._arm,
                "seed": seed,
                "cohort": len(self._seeds),
                "outcome": self._outcome(emerged),
                "emerged_at": None if self._dense else emerged,
                "search_seconds": search_seconds,
                "retrain_seconds": retrain_seconds,
                "retrain_share": share,
                "weights": bits,
            }
            self._log.write(record)
        self._log.sync()

    def _outcome(self, emerged: int | None) -> str:
        if self._dense:
            return "trained"
        return "no_ticket" if emerged is None else "ticket"


def _first_drawn(found: Search) -> int:
    """Return the position of the first seed that has a ticket."""
    return next(i for i, e in enumerate(found.emerged_at) if e is not None)
