"""One trial with one cohort of seeds: draw, prune, retrain, resumable at any moment."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from experiments._folder import RunFolder
from experiments._progress import Progress
from experiments.channels import UnitStore
from experiments.early_bird._dense import DrawnWeights
from experiments.early_bird._draw import Drawn, at_random, by_scales, by_sensitivity
from experiments.early_bird._history import History
from experiments.early_bird._setup import Setup
from experiments.early_bird._trials import Trial
from experiments.training import (
    MetricsLog,
    Network,
    TrainState,
    digest,
    mask_text,
    stack_seeds,
    take_seed,
    train_rest,
)


class Retrain(NamedTuple):
    """Where a retraining stands; see `experiments.training.Standing`."""

    network: Network
    state: TrainState
    masks: PyTree
    seconds: float
    losses: tuple[float, ...]
    weights: tuple[str | None, ...]


class RetrainUnit:
    """Trains what one trial draws, for one cohort.

    Args:
      setup: data and programs.
      folder: the run's folder.
      progress: shows its phase.
      trial: which channels, which weights, which part of the schedule.
      seeds: the cohort; its dense training is over.
    """

    def __init__(
        self,
        setup: Setup,
        folder: RunFolder,
        progress: Progress,
        trial: Trial,
        seeds: Sequence[int],
    ):
        self._setup, self._progress = setup, progress
        self._trial, self._seeds = trial, list(seeds)
        self._folder = folder
        every = setup.config.checkpoint_seconds
        self._store = UnitStore(folder, trial.name, seeds, every, ["retrain"])
        self._weights = DrawnWeights(folder, seeds)
        self._saved: tuple[TrainState, dict[str, Any]] | None = None

    def restore(self) -> int | None:
        """Read where the retraining stood; return the number of records then, or None.

        Raises:
          CheckpointError: its checkpoint is damaged, or of another run.
        """
        params, stats = self._setup.initial(self._seeds)
        like = self._setup.start_retrain(params, stats, self._seeds, [0] * len(self._seeds))
        found = self._store.restore("retrain", like)
        if found is None:
            return None
        state, fields, records = found
        self._saved = state, fields
        return records

    def run(self, log: MetricsLog) -> None:
        """Draw, prune, retrain to the end; log a result for each seed.

        Raises:
          ValueError: the dense training failed, a loss or a score was not finite, or a pruned entry moved.
        """
        config, trial, seeds = self._setup.config, self._trial, self._seeds
        history = History(self._folder.records(), config.prune_ratios)
        if not history.finished("dense", seeds):
            raise ValueError("The dense training failed, so that there is nothing to draw from.")
        drawn_at = history.drawn_at(trial, seeds, config.epochs)
        drawn = [
            None if e is None else self._draw(history, seed, i, e)
            for i, (seed, e) in enumerate(zip(seeds, drawn_at, strict=True))
        ]
        if all(d is None for d in drawn):
            for seed in seeds:
                log.write(self._result(seed, None, None, 0.0, None))
            log.sync()
            return
        end = self._retrain(self._begin(drawn_at, drawn), drawn_at, log)
        for i, seed in enumerate(seeds):
            log.write(self._result(seed, drawn_at[i], drawn[i], end.seconds, end.weights[i]))
        log.sync()

    def _draw(self, history: History, seed: int, place: int, epoch: int) -> Drawn:
        setup, trial = self._setup, self._trial
        if trial.rule.channels == "snip":
            params, stats = setup.initial([seed])
            found = setup.sensitivity(params, stats, jax.random.key(seed)[None])
            scores, masks = jax.device_get(found)
            return by_sensitivity(trial, history.place(trial.ratio), scores[0], masks[0], setup)
        mask = history.mask(trial.ratio, seed, epoch, sum(setup.widths))
        params, _ = self._dense(epoch, place)
        drawn = by_scales(setup, mask, params)
        return at_random(setup, drawn, seed) if trial.rule.channels == "random" else drawn

    def _dense(self, epoch: int, place: int) -> tuple[PyTree, PyTree]:
        return self._weights.load(epoch, self._setup.initial(self._seeds), place)

    def _begin(self, drawn_at: Sequence[int | None], drawn: Sequence[Drawn | None]) -> Retrain:
        """Prune, and stand at the epoch where training begins; a seed without a ticket stands beyond the end."""
        setup, trial, seeds = self._setup, self._trial, self._seeds
        last = setup.config.epochs
        params, stats = setup.initial(seeds, fresh=trial.rule.weights == "fresh")
        if trial.rule.weights == "drawn":
            kept = [self._dense(last if e is None else e, i) for i, e in enumerate(drawn_at)]
            params, stats = stack_seeds(kept)
        all_of = np.ones(sum(setup.widths), bool)
        masks = stack_seeds([setup.mask_tree(all_of if d is None else d.flat) for d in drawn])
        params = setup.pruned(params, masks)
        epochs = [last + 1 if e is None else trial.start(e) for e in drawn_at]
        fresh = Retrain(
            setup.full,
            setup.start_retrain(params, stats, seeds, epochs),
            masks,
            0.0,
            (math.nan,) * len(seeds),
            tuple(digest(take_seed(params, i)) if d is None else None for i, d in enumerate(drawn)),
        )
        if self._saved is None:
            return fresh
        state, fields = self._saved
        return fresh._replace(state=state, **fields)

    def _retrain(self, start: Retrain, drawn_at: Sequence[int | None], log: MetricsLog) -> Retrain:
        seeds, last = self._seeds, self._setup.config.epochs
        label = seeds[0] if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        first = min(self._trial.start(e) for e in drawn_at if e is not None)
        with self._progress.phase(self._trial.name, "retrain", seed=label, total=last - first) as p:
            p.advance(int(np.min(jax.device_get(start.state.epoch))) - first)

            def after_epoch(now: Retrain) -> None:
                p.advance(loss=float(np.mean(now.losses)))
                if self._store.due:
                    fields = {"seconds": now.seconds, "losses": now.losses, "weights": now.weights}
                    self._store.save("retrain", now.state, fields, log)

            return train_rest(
                start,
                self._setup.tx,
                self._setup.train,
                last=last,
                seeds=seeds,
                phase="retrain",
                arm=self._trial.name,
                log=log.write,
                after_epoch=after_epoch,
                clock=self._setup.clock,
            )

    def _result(
        self,
        seed: int,
        drawn_at: int | None,
        drawn: Drawn | None,
        seconds: float,
        weights: str | None,
    ) -> dict[str, Any]:
        """What a seed came to: the ticket's layers and its size are both told (EB-D8)."""
        record: dict[str, Any] = {
            "kind": "result",
            "arm": self._trial.name,
            "seed": seed,
            "cohort": len(self._seeds),
            "method": self._trial.method,
            "ratio": self._trial.ratio,
            "outcome": "no_ticket" if drawn is None else "trained",
            "drawn_at": drawn_at,
            "seconds": seconds,
            "weights": weights,
        }
        if drawn is None or drawn_at is None:
            return record
        cost = self._setup.cost(drawn.flat)
        parts = np.split(drawn.flat, self._setup.edges[1:-1])
        return {
            **record,
            "start": self._trial.start(drawn_at),
            "mask": mask_text(drawn.flat),
            "kept": [int(part.sum()) for part in parts],
            "spared_layers": drawn.spared,
            "macs": cost.macs,
            "parameters": cost.parameters,
            "share": cost.share,
        }
