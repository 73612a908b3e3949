"""One arm with one seed, from first step to result, resumable after every epoch."""

import time
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

import wormjax as wj
from experiments._epoch import check_loss, epoch_record
from experiments._folder import RunFolder
from experiments._progress import Progress
from experiments._unit_store import UnitStore
from experiments.dst_criteria._config import Arm
from experiments.dst_criteria._setup import Setup
from experiments.training import MetricsLog, TrainState, digest, mean_loss, take_seed
from wormjax.dst import analysis


class Stand(NamedTuple):
    """Where a training stands: its state, and the seconds that it took so far."""

    state: TrainState
    seconds: float


class Unit:
    """Runs one arm with one seed.

    Args:
      setup: data, model and programs.
      folder: of the run.
      progress: shows epochs.
      arm: the arm.
      seed: its seed.
    """

    def __init__(self, setup: Setup, folder: RunFolder, progress: Progress, arm: Arm, seed: int):
        self._setup, self._progress, self._arm, self._seed = setup, progress, arm, seed
        every = setup.config.checkpoint_seconds
        self._store = UnitStore(folder, arm.name, [seed], every, ["train"])

    def restore(self) -> tuple[Stand, int | None]:
        """Return where the training stood and the number of records then, or its beginning and None.

        Raises:
          CheckpointError: its checkpoint is damaged, or of another run.
        """
        fresh = self._setup.start(self._arm, self._seed)
        found = self._store.restore("train", fresh)
        if found is None:
            return Stand(fresh, 0.0), None
        state, fields, records = found
        return Stand(state, fields["seconds"]), records

    def run(self, log: MetricsLog, start: Stand) -> None:
        """Train to the end, and log every epoch and the result.

        Raises:
          ValueError: a loss or a score was not finite, or a pruned weight is not zero.
        """
        setup, arm, seed = self._setup, self._arm, self._seed
        config = setup.config
        state, seconds = start
        done = int(jax.device_get(state.epoch)[0])
        runner = setup.runner(arm)
        runner.compile(state, *setup.train)
        with self._progress.phase(arm.name, "train", seed=seed, total=config.epochs) as phase:
            phase.advance(done)
            for epoch in range(done + 1, config.epochs + 1):
                begin = time.perf_counter()
                state, metrics = runner(state, *setup.train)
                loss = float(jax.device_get(mean_loss(metrics))[0])
                seconds += time.perf_counter() - begin
                check_loss(loss, arm.name, seed, epoch)
                held_out = setup.held_out(state)
                told = epoch_record(arm.name, seed, epoch, loss, held_out)
                log.write(told | {"explored": _explored(arm, state)})
                phase.advance(loss=loss)
                if self._store.due and epoch < config.epochs:
                    self._store.save("train", state, {"seconds": seconds}, log)
        _check(arm, state)
        log.write(self._result(state, seconds))
        if arm == config.compared:
            for when, at in (
                ("before training", setup.start(arm, seed)),
                ("after training", state),
            ):
                log.write(self._similarity(when, at))
        log.sync()

    def _result(self, state: TrainState, seconds: float) -> dict[str, Any]:
        setup, arm, seed = self._setup, self._arm, self._seed
        record: dict[str, Any] = {
            "kind": "result",
            "arm": arm.name,
            "seed": seed,
            "seconds": seconds,
            "weights": digest(take_seed(state.params, 0)),
        }
        if arm.name == "dense":
            return record
        masks = _masks(state)
        first = _masks(setup.start(arm, seed))
        kept = wj.dst.analysis.layer_densities(masks, take_seed(state.params, 0))
        found = analysis.overlap(first, masks)
        dead = analysis.dead_units(masks, take_seed(state.params, 0)).values()
        return record | {
            "kept": sum(layer.kept for layer in kept.values()),
            "size": sum(layer.size for layer in kept.values()),
            "layers": {name: float(layer.density) for name, layer in kept.items()},
            "overlap": float(found.total),
            "chance": float(found.chance),
            "dead_units": sum(d.outputs for d in dead),
            "units": sum(d.output_units for d in dead),
            "training_flops": setup.training_flops(arm, masks),
        }

    def _similarity(self, when: str, state: TrainState) -> dict[str, Any]:
        setup, config = self._setup, self._setup.config
        one = take_seed(state, 0)
        params, stats = one.params, one.stats
        removed = analysis.removed_by(
            setup.criteria,
            params,
            _masks(state),
            setup.gradient(params, stats),
            str(config.drop_fraction),
            jax.random.key(self._seed),
        )
        matrix = np.asarray(analysis.jaccard_matrix(removed).total)
        return {
            "kind": "similarity",
            "arm": self._arm.name,
            "seed": self._seed,
            "when": when,
            "criteria": list(setup.criteria),
            "jaccard": matrix.round(6).tolist(),
        }


def _check(arm: Arm, state: TrainState) -> None:
    """Raise where a pruned weight moved or a score was not finite; see `wormjax.check`."""
    if arm.name == "dense":
        return
    opt_state = take_seed(state.opt_state, 0)
    wj.check(opt_state)
    masks, params = _masks(state), take_seed(state.params, 0)
    pairs = zip(*jax.device_get((jax.tree.leaves(masks), jax.tree.leaves(params))), strict=True)
    moved = sum(int(np.count_nonzero(p[~m])) for m, p in pairs if np.ndim(m))
    if moved:
        raise ValueError(f"{moved} pruned weights of arm {arm.name!r} are not zero.")


def _masks(state: TrainState) -> PyTree:
    return wj.masks_of(take_seed(state.opt_state, 0), take_seed(state.params, 0))


def _explored(arm: Arm, state: TrainState) -> float | None:
    if arm.name == "dense":
        return None
    return float(_share([x[0] for x in state.opt_state.fired]))


@jax.jit
def _share(fired: list[jax.Array]) -> jax.Array:
    total = sum((jax.numpy.sum(x, dtype="int32") for x in fired), jax.numpy.int32(0))
    return total.astype("float32") / sum(x.size for x in fired)
