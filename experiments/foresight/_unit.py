"""One arm with one seed: pruned, then trained, resumable after every epoch."""

import time
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from experiments._epoch import check_loss, epoch_record
from experiments._folder import RunFolder
from experiments._progress import Progress
from experiments.foresight._config import Arm
from experiments.foresight._setup import Setup
from experiments.training import (
    Checkpoints,
    MetricsLog,
    TrainState,
    digest,
    mean_loss,
    stack_seeds,
    take_seed,
)
from wormjax.evaluation import connectivity, ntk, ntk_spectrum

_HELD = 2**28  # entries of a Jacobian: of VGG-16 in 100 classes, one image


class Stand(NamedTuple):
    """Where a training stands: its state, its masks, and the seconds that pruning and training took so far."""

    state: TrainState
    masks: PyTree
    prune_seconds: float
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
        self._folder = folder
        fingerprint = {"config": folder.provenance()["config"], "arm": arm.name, "seed": seed}
        self._store = Checkpoints(folder.checkpoints / f"{arm.name}-{seed}", fingerprint)

    def restore(self) -> tuple[Stand | None, int | None]:
        """Return where the training stood and the number of records then, or None twice.

        Raises:
          CheckpointError: its checkpoint is damaged, or of another run.
        """
        setup = self._setup
        like = setup.start(
            self._arm, self._seed, setup.weights(self._seed, self._folder), setup.whole
        )
        found = self._store.restore((like, setup.whole))
        if found is None:
            return None, None
        (state, masks), position = found
        return (
            Stand(state, masks, position["prune_seconds"], position["seconds"]),
            position["records"],
        )

    def run(self, log: MetricsLog, start: Stand | None) -> None:
        """Prune, train to the end, and log every epoch and the result.

        Raises:
          ValueError: a score or a loss was not finite.
        """
        setup, arm, seed = self._setup, self._arm, self._seed
        config = setup.config
        tree = setup.weights(seed, self._folder)
        if start is None:
            begin = time.perf_counter()
            masks = jax.block_until_ready(setup.prune(arm, seed, tree))
            taken = time.perf_counter() - begin
            start = Stand(setup.start(arm, seed, tree, masks), masks, taken, 0.0)
        state, masks, prune_seconds, seconds = start
        stacked = stack_seeds([masks])
        done = int(jax.device_get(state.epoch)[0])
        saved = time.monotonic()
        with self._progress.phase(arm.name, "train", seed=seed, total=config.epochs) as phase:
            phase.advance(done)
            for epoch in range(done + 1, config.epochs + 1):
                begin, compiled = time.perf_counter(), setup.compile_seconds
                state, metrics = setup.epoch(state, stacked)
                loss = float(jax.device_get(mean_loss(metrics))[0])
                seconds += time.perf_counter() - begin - (setup.compile_seconds - compiled)
                check_loss(loss, arm.name, seed, epoch)
                held_out = setup.held_out(state, stacked)
                log.write(epoch_record(arm.name, seed, epoch, loss, held_out))
                phase.advance(loss=loss)
                if time.monotonic() - saved >= config.checkpoint_seconds and epoch < config.epochs:
                    position = {"prune_seconds": prune_seconds, "seconds": seconds}
                    self._store.save((state, masks), {"records": log.sync(), **position})
                    saved = time.monotonic()
        record = self._result(tree, state, masks)
        log.write(record | {"prune_seconds": prune_seconds, "seconds": seconds})
        log.sync()

    def _result(self, tree: PyTree, state: TrainState, masks: PyTree) -> dict[str, Any]:
        setup, arm, seed = self._setup, self._arm, self._seed
        config = setup.config
        stats = jax.tree.map(lambda _: np.ones((), bool), tree["stats"])
        both = {"params": masks, "stats": stats}
        found = connectivity(setup.network.evaluated, tree, setup.batches[0][0], masks=both)
        own = {name: leaf for name, leaf in found.leaves.items() if name.startswith("params/")}
        record: dict[str, Any] = {
            "kind": "result",
            "arm": arm.name,
            "seed": seed,
            "weights": digest(take_seed(state.params, 0)),
            "kept": sum(leaf.kept for leaf in own.values()),
            "size": sum(leaf.size for leaf in own.values()),
            "effective": sum(leaf.effective for leaf in own.values()),
            "layers": {n.removeprefix("params/"): leaf.density for n, leaf in own.items()},
            "widths": {
                n.removeprefix("params/"): [leaf.effective_channels, leaf.channels]
                for n, leaf in own.items()
            },
            "emptied": [n.removeprefix("params/") for n in found.emptied],
            "collapsed": found.collapsed,
        }
        if seed == config.first_seed and arm.density in (config.spectrum_density, 1.0):
            if not config.spectrum_density:
                return record
            inputs = setup.batches[0][0][: config.spectrum_per_class * setup.classes]
            # gradients of all classes of these many images are held at once, twice
            block = max(1, _HELD // (setup.classes * setup.sizes()["parameters"]))
            kernel = ntk(setup.network.evaluated, tree, inputs, masks=both, block=block)
            spectrum = ntk_spectrum(kernel)
            record["spectrum"] = [float(x) for x in spectrum.eigenvalues]
            record["trace"] = spectrum.trace
        return record
