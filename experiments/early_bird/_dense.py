"""The dense training: every ratio's detector looks on, and weights are kept where tickets are drawn."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from experiments._folder import RunFolder
from experiments._progress import Progress
from experiments.channels import UnitStore
from experiments.early_bird._setup import Setup
from experiments.training import (
    Checkpoints,
    MetricsLog,
    Network,
    TrainState,
    mask_text,
    take_seed,
    train_rest,
)


class Dense(NamedTuple):
    """Where the dense training stands; see `experiments.training.Standing`."""

    network: Network
    state: TrainState
    seconds: float
    losses: tuple[float, ...]
    weights: tuple[str | None, ...]
    masks: None = None


class DrawnWeights:
    """The dense networks' weights at the epochs of the draws, on the disk.

    Args:
      folder: the run's folder.
      seeds: of a cohort.
    """

    def __init__(self, folder: RunFolder, seeds: Sequence[int]):
        self._folder, self._seeds = folder, list(seeds)
        self._config = folder.provenance()["config"]

    def save(self, epoch: int, state: TrainState) -> None:
        """Keep the weights of every seed after an epoch."""
        self._store(epoch).save((state.params, state.stats), {"epoch": epoch})

    def load(self, epoch: int, like: tuple[PyTree, PyTree], place: int) -> tuple[PyTree, PyTree]:
        """Return parameters and other state of one seed.

        Args:
          epoch: after which they were kept.
          like: stacked trees of the same shapes.
          place: position of the seed in its cohort.

        Raises:
          CheckpointError: they are damaged, or of another run.
          ValueError: there are none of that epoch.
        """
        found = self._store(epoch).restore(like)
        if found is None:
            raise ValueError(
                f"The weights of seeds {self._seeds} after epoch {epoch} of the dense training are not in the "
                "run's checkpoints. Start afresh with another --out DIR."
            )
        return take_seed(found[0], place)

    def _store(self, epoch: int) -> Checkpoints:
        name = f"dense-{self._seeds[0]}-epoch{epoch}"
        fingerprint = {"config": self._config, "seeds": self._seeds, "epoch": epoch}
        return Checkpoints(self._folder.checkpoints / name, fingerprint, keep=1)


class DenseUnit:
    """The dense training of one cohort, resumable at any moment.

    Args:
      setup: data and programs.
      folder: the run's folder.
      progress: shows its phase.
      seeds: the cohort.
    """

    def __init__(self, setup: Setup, folder: RunFolder, progress: Progress, seeds: Sequence[int]):
        self._setup, self._progress, self._seeds = setup, progress, list(seeds)
        every = setup.config.checkpoint_seconds
        self._store = UnitStore(folder, "dense", seeds, every, ["train"])
        self._drawn = DrawnWeights(folder, seeds)
        params, stats = setup.initial(seeds)
        self._detector = setup.start_detector(params)
        state = setup.start_retrain(params, stats, seeds, [0] * len(seeds))
        nothing = (float("nan"),) * len(seeds), (None,) * len(seeds)
        self._start = Dense(setup.full, state, 0.0, *nothing)
        self._emerged = np.zeros((len(seeds), len(setup.config.prune_ratios)), bool)

    def restore(self) -> int | None:
        """Go to where the training stood; return the number of records then, or None.

        Raises:
          CheckpointError: its checkpoint is damaged, or of another run.
        """
        found = self._store.restore("train", (self._start.state, self._detector))
        if found is None:
            return None
        (state, self._detector), fields, records = found
        self._start = Dense(self._setup.full, state, **fields)
        self._emerged = np.asarray(jax.device_get(self._detector.emerged))
        return records

    def run(self, log: MetricsLog) -> None:
        """Train to the end of the schedule; log a result for each seed.

        Raises:
          ValueError: a loss or a scale was not finite.
        """
        epochs, seeds = self._setup.config.epochs, self._seeds
        label = seeds[0] if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        with self._progress.phase("dense", "train", seed=label, total=epochs) as phase:
            phase.advance(int(np.min(jax.device_get(self._start.state.epoch))))

            def after_epoch(now: Dense) -> None:
                phase.advance(loss=float(np.mean(now.losses)))
                if self._store.due:
                    fields = {"seconds": now.seconds, "losses": now.losses, "weights": now.weights}
                    self._store.save("train", (now.state, self._detector), fields, log)

            end = train_rest(
                self._start,
                self._setup.tx,
                self._setup.train,
                last=epochs,
                seeds=seeds,
                phase="dense",
                arm="dense",
                log=log.write,
                after_epoch=after_epoch,
                clock=self._setup.clock,
                observe=self._observe,
            )
        emerged_at = jax.device_get(self._detector.emerged_at)
        for i, seed in enumerate(seeds):
            log.write(
                {
                    "kind": "result",
                    "arm": "dense",
                    "seed": seed,
                    "cohort": len(seeds),
                    "emerged_at": [int(e) if e >= 0 else None for e in emerged_at[i]],
                    "seconds": end.seconds,
                    "weights": end.weights[i],
                    "macs": self._setup.macs,
                    "parameters": self._setup.parameters,
                }
            )
        log.sync()

    def _observe(self, state: TrainState) -> Sequence[Mapping[str, Any]]:
        """Ask the detectors, keep the weights where something is drawn, and tell what they said."""
        self._detector, reading = self._setup.detect(state.params, self._detector)
        reading = jax.device_get(reading)
        nonfinite = jax.device_get(self._detector.nonfinite)
        for seed, flags in zip(self._seeds, nonfinite, strict=True):
            for name, flag in zip(self._setup.layers, flags, strict=True):
                if flag:
                    raise ValueError(
                        f"The scale {name!r} of seed {seed} held NaN or infinity, so that no ticket can be "
                        "drawn. Lower learning_rate."
                    )
        epoch, config = int(state.epoch[0]), self._setup.config
        drawn = (reading.emerged & ~self._emerged).any()
        self._emerged = reading.emerged
        if drawn or epoch in config.draw_epochs or epoch == config.epochs:
            self._drawn.save(epoch, state)
        return [_fields(reading, i) for i in range(len(self._seeds))]


def _fields(reading: Any, i: int) -> dict[str, Any]:
    """What the detectors said of one seed: a list over ratios each."""
    return {
        "emerged": reading.emerged[i].tolist(),
        "largest_distance": reading.largest[i].astype(np.float64).tolist(),
        "mean_distance": reading.mean[i].astype(np.float64).tolist(),
        "leaf_distances": reading.of_leaves[i].astype(np.float64).tolist(),
        "degenerate": bool(reading.degenerate[i]),
        "kept": reading.kept[i].tolist(),
        "mask": [mask_text(mask) for mask in reading.mask[i]],
    }
