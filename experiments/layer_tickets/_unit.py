"""One arm with one seed, from first step to result, resumable after every epoch."""

import contextlib
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

import wormjax as wj
from experiments._energy import NONE, Energy
from experiments._epoch import check_loss, epoch_record
from experiments._folder import RunFolder
from experiments._progress import Progress
from experiments.layer_tickets._config import DENSE, Arm
from experiments.layer_tickets._programs import Programs
from experiments.layer_tickets._rewound import Rewinding
from experiments.layer_tickets._setup import Drawn, Setup, parameters_of
from experiments.training import (
    Checkpoints,
    MetricsLog,
    TrainState,
    digest,
    mean_loss,
    stack_seeds,
    take_seed,
)
from wormjax.evaluation import calibration_error, linear_cka


class Stand(NamedTuple):
    """Where a training stands: its network, its state, and the seconds and the energy that it took so far."""

    drawn: Drawn
    state: TrainState
    seconds: float
    energy: Energy


class Unit:
    """Runs one arm with one seed.

    Args:
      setup: data, model and programs.
      folder: of the run.
      rewinding: states of the dense networks that tickets go back to.
      progress: shows epochs.
      arm: the arm.
      seed: its seed.
    """

    def __init__(
        self,
        setup: Setup,
        folder: RunFolder,
        rewinding: Rewinding,
        progress: Progress,
        arm: Arm,
        seed: int,
    ):
        self._setup, self._folder, self._progress = setup, folder, progress
        self._arm, self._seed = arm, seed
        self._rewinding = rewinding
        fingerprint = {"config": folder.provenance()["config"], "arm": arm.name, "seed": seed}
        self._store = Checkpoints(folder.checkpoints / f"{arm.name}-{seed}", fingerprint)

    def restore(self) -> tuple[Stand, int | None]:
        """Return where the training stood and the number of records then, or its beginning and None.

        Raises:
          CheckpointError: its checkpoint is damaged, or of another run.
        """
        is_rewound = self._arm.rewind_to is not None
        source = self._rewinding if is_rewound else self._setup
        drawn = source.draw(self._arm, self._seed)
        fresh = self._setup.start(drawn, self._seed)
        found = self._store.restore(fresh)
        if found is None:
            return Stand(drawn, fresh, 0.0, NONE), None
        state, position = found
        return Stand(drawn, state, position["seconds"], Energy(*position["energy"])), position[
            "records"
        ]

    def run(self, log: MetricsLog, start: Stand) -> None:
        """Train to the end, and log every epoch and the result.

        Raises:
          ValueError: a loss was not finite, or there is no dense network to compare a ticket with.
        """
        setup, arm, seed = self._setup, self._arm, self._seed
        config = setup.config
        if arm != DENSE:
            self._dense_features()  # read at the end; a ticket without them need not train
        drawn, state, seconds, energy = start
        meter = setup.meter
        masks = None if drawn.masks is None else stack_seeds([drawn.masks])
        programs = setup.programs(drawn)
        done = int(jax.device_get(state.epoch)[0])
        programs.runner.compile(state, *setup.train, masks)
        saved = time.monotonic()
        with self._progress.phase(arm.name, "train", seed=seed, total=config.epochs) as phase:
            phase.advance(done)
            for epoch in range(done + 1, config.epochs + 1):
                with meter or contextlib.nullcontext():
                    begin = time.perf_counter()
                    state, metrics = programs.runner(state, *setup.train, masks)
                    loss = float(jax.device_get(mean_loss(metrics))[0])
                    seconds += time.perf_counter() - begin
                energy += meter.last if meter else NONE
                check_loss(loss, arm.name, seed, epoch)
                params, stats = _of(state, drawn)
                held_out = {
                    name: float(np.mean(programs.predict(params, stats, x).logits.argmax(-1) == y))
                    for name, (x, y) in setup.held_out.items()
                }
                log.write(epoch_record(arm.name, seed, epoch, loss, held_out))
                phase.advance(loss=loss)
                if arm == DENSE:
                    self._rewinding.keep(seed, epoch, state)
                if time.monotonic() - saved >= config.checkpoint_seconds and epoch < config.epochs:
                    self._store.save(
                        state, {"records": log.sync(), "seconds": seconds, "energy": list(energy)}
                    )
                    saved = time.monotonic()
        log.write(self._result(programs, drawn, state, seconds, energy))
        log.sync()

    def _result(
        self, programs: Programs, drawn: Drawn, state: TrainState, seconds: float, energy: Energy
    ) -> dict[str, Any]:
        setup, arm, seed = self._setup, self._arm, self._seed
        params, stats = _of(state, drawn)
        images, labels = setup.held_out["test"]
        told = programs.predict(params, stats, images)
        scored = arm.rewind_to is None and arm.kind not in ("dense", "filters", "random", "l1")
        return {
            "kind": "result",
            "arm": arm.name,
            "seed": seed,
            "seconds": seconds,
            "energy": energy._asdict() if setup.meter else None,
            "energy_meter": setup.meter.version if setup.meter else None,
            "removed": drawn.removed,
            "aggregate": setup.config.aggregate,
            "per_stage": setup.per_stage(arm, seed) if scored else None,
            "macs": drawn.macs,
            "parameters": parameters_of(drawn),
            "filters": drawn.filters,
            "memory": None if drawn.masks is not None else setup.memory(drawn),
            "measured_memory": None
            if drawn.masks is not None
            else programs.measured_bytes(params, stats, images),
            "calibration_error": calibration_error(told.logits, labels),
            "cka": self._likeness(told.features),
            **self._robustness(programs, params, stats),
            "weights": digest(take_seed(state.params, 0)),
        }

    def _likeness(self, features: np.ndarray) -> float:
        """Linear CKA to the trained dense network's features of the same seed, which is written once."""
        flat = features.reshape(len(features), -1)
        if self._arm == DENSE:
            self._features.parent.mkdir(parents=True, exist_ok=True)
            np.save(self._features, flat, allow_pickle=False)
            return 1.0
        return linear_cka(flat, self._dense_features())

    @property
    def _features(self) -> Path:
        return self._folder.checkpoints / f"features-{self._seed}.npy"

    def _dense_features(self) -> np.ndarray:
        try:
            return np.load(self._features, allow_pickle=False, mmap_mode="r")
        except FileNotFoundError:
            raise ValueError(
                f"There are no features of the dense network of seed {self._seed} ({self._features.name}) to compare "
                f"arm {self._arm.name!r} with: its training failed, or the file was removed. Start afresh in another "
                "folder, with settings under which the dense network trains."
            ) from None

    def _robustness(self, programs: Programs, params: PyTree, stats: PyTree) -> dict[str, Any]:
        setup, config = self._setup, self._setup.config
        images, labels = setup.robust

        def right(x: Any) -> np.ndarray:
            return programs.predict(params, stats, np.asarray(x)).logits.argmax(-1) == np.resize(
                labels, len(x)
            )

        together = right(np.concatenate(list(setup.corrupted.values())))
        parts = np.split(together, len(setup.corrupted))
        by_name = {n: float(p.mean()) for n, p in zip(setup.corrupted, parts, strict=True)}
        x, y = jnp.asarray(images), jnp.asarray(labels)
        size = config.epsilon / 4
        once = programs.attacked(
            params, stats, x, y, epsilon=config.epsilon, step_size=config.epsilon, steps=1
        )
        often = programs.attacked(
            params, stats, x, y, epsilon=config.epsilon, step_size=size, steps=config.attack_steps
        )
        found = {
            "clean": float(right(images).mean()),
            "corrupted": float(together.mean()),
            "corruptions": by_name,
            "fgsm": float(right(once).mean()),
            "pgd": float(right(often).mean()),
        }
        if config.epsilon_l2:
            radius = config.epsilon_l2
            moved = programs.attacked(
                params,
                stats,
                x,
                y,
                epsilon=radius,
                step_size=radius / 4,
                steps=config.attack_steps,
                norm="l2",
            )
            found["pgd_l2"] = float(right(moved).mean())
        return found


def _of(state: TrainState, drawn: Drawn) -> tuple[PyTree, PyTree]:
    """The parameters and statistics of the one seed, masked where the arm is."""
    params = take_seed(state.params, 0)
    if drawn.masks is not None:
        params = _masked(params, drawn.masks)
    return params, take_seed(state.stats, 0)


_masked = jax.jit(wj.apply_masks)
