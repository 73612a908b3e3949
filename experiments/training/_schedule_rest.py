"""Training on what is left of a schedule, masked or not, every epoch on record."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from experiments.training._digest import digest
from experiments.training._evaluate import mean_loss
from experiments.training._network import Network
from experiments.training._per_seed import PerSeed
from experiments.training._seeds import take_seed
from experiments.training._state import TrainState
from wormjax.evaluation import PhaseClock


class Standing(Protocol):
    """Where a training stands: a named tuple with these fields, and its own beside them.

    Attributes:
      network: what trains.
      state: the training state; masked entries are zero in it.
      masks: masks with a leading seed axis, or None for none.
      seconds: training time so far, without compilation and evaluation.
      losses: for each seed the mean training loss of the last epoch, NaN before the first.
      weights: for each seed the digest of its weights when its training ended, None before.
    """

    @property
    def network(self) -> Network: ...
    @property
    def state(self) -> TrainState: ...
    @property
    def masks(self) -> PyTree | None: ...
    @property
    def seconds(self) -> float: ...
    @property
    def losses(self) -> tuple[float, ...]: ...
    @property
    def weights(self) -> tuple[str | None, ...]: ...
    @property
    def _replace(self) -> Any: ...


S = TypeVar("S", bound=Standing)


@PerSeed
def _moved(params: PyTree, masks: PyTree) -> Array:
    """Count the entries that a mask prunes and that are not zero."""
    counts = [
        jnp.sum(jnp.where(m, jnp.zeros((), p.dtype), p) != 0, dtype=jnp.int32)
        for p, m in zip(jax.tree.leaves(params), jax.tree.leaves(masks), strict=True)
        if m.ndim
    ]
    return sum(counts, jnp.zeros((), jnp.int32))


def train_rest(
    start: S,
    tx: optax.GradientTransformationExtraArgs,
    data: tuple[Array, Array],
    *,
    last: int,
    seeds: Sequence[int],
    phase: str,
    arm: str,
    log: Callable[[dict], None],
    after_epoch: Callable[[S], None],
    clock: PhaseClock,
    observe: Callable[[TrainState], Sequence[Mapping[str, Any]]] | None = None,
) -> S:
    """Train every seed from the epoch at which it stands until the schedule's end.

    The record of a seed's epoch e tells of the network after e epochs; the first one is the network as it came.

    Args:
      start: fresh or from a checkpoint; its state is consumed.
      tx: the chain that its optimizer state is of.
      data: images and labels of the training split, on the device.
      last: epochs of the whole schedule.
      seeds: of the cohort; they may stand at different epochs, and beyond ``last`` are left out.
      phase: name of the phase, for the records; the network's program goes by it too.
      arm: name of the arm.
      log: takes one record for each seed and epoch; a seed that is through is left out.
      after_epoch: called with where the training stands, where a checkpoint may be saved.
      clock: takes what training and evaluating cost.
      observe: what else there is to say of each seed at the top of an epoch, fields for its record.

    Returns:
      Where the training stands at its end.

    Raises:
      ValueError: a loss is not finite, or a masked entry is no longer zero.
    """
    now, masks = start, start.masks
    runner = now.network.runner(phase, tx)
    runner.compile(now.state, *data, masks)
    epochs = np.asarray(jax.device_get(now.state.epoch))
    while True:
        told = observe(now.state) if observe else [{}] * len(seeds)
        with clock("evaluate"):
            held_out = now.network.held_out(now.state, masks)
        weights = list(now.weights)
        for i, seed in enumerate(seeds):
            if epochs[i] <= last:
                head = {"kind": "epoch", "phase": phase, "arm": arm, "seed": seed}
                log({**head, **_figures(int(epochs[i]), held_out, now.losses[i], i), **told[i]})
            if epochs[i] == last:
                weights[i] = digest(take_seed(now.state.params, i))
        now = now._replace(weights=tuple(weights))
        if epochs.min() >= last:
            break
        with clock("train") as span:
            state, metrics = span.wait(runner(now.state, *data, masks))
        losses = tuple(jax.device_get(mean_loss(metrics)).tolist())
        now = now._replace(state=state, losses=losses, seconds=now.seconds + span.seconds)
        epochs = epochs + 1
        for seed, epoch, loss in zip(seeds, epochs, losses, strict=True):
            if epoch <= last and not math.isfinite(loss):
                raise ValueError(
                    f"The training loss of arm {arm!r}, seed {seed}, is {loss} in epoch {epoch}, in the phase "
                    f"{phase!r}. Lower learning_rate."
                )
        after_epoch(now)
    moved = 0 if masks is None else int(jax.device_get(_moved(now.state.params, masks)).sum())
    if moved:
        raise ValueError(
            f"{moved} pruned entries of arm {arm!r} are no longer zero: something moved them "
            "that is not masked."
        )
    return now


def _figures(epoch: int, held_out: Mapping[str, Any], loss: float, i: int) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "train_loss": loss,
        "validation_accuracy": float(held_out["validation"][i]),
        "test_accuracy": float(held_out["test"][i]),
    }
