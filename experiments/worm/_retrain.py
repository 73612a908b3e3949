"""Retraining of a pruned network under its masks, on the schedule's remaining epochs."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

import wormjax as wj
from experiments.training import TrainState, mean_loss
from experiments.training._per_seed import PerSeed
from experiments.worm._search import Ticket
from experiments.worm._setup import Setup


class Retrain(NamedTuple):
    """Where a retraining stands.

    Attributes:
      state: the training state; pruned entries are zero in it.
      masks: the tickets' masks.
      seconds: training time, without compilation and evaluation.
      losses: for each seed the mean training loss of the last epoch, NaN before the first.
    """

    state: TrainState
    masks: PyTree
    seconds: float
    losses: tuple[float, ...]


_prune = PerSeed(wj.apply_masks)


@PerSeed
def _leaked(params: PyTree, masks: PyTree) -> Any:
    pruned = jax.tree.map(
        lambda p, m: jnp.sum(jnp.where(m, jnp.zeros((), p.dtype), p) != 0, dtype=jnp.int32),
        params,
        masks,
    )
    ranked = [
        n for n, m in zip(jax.tree.leaves(pruned), jax.tree.leaves(masks), strict=True) if m.ndim
    ]
    return sum(ranked, jnp.zeros((), jnp.int32))


def begin_retrain(
    setup: Setup, ticket: Ticket, seeds: Sequence[int], emerged_at: Sequence[int]
) -> Retrain:
    """Prune the drawn weights and start a fresh optimizer at the epoch of each ticket."""
    params = _prune(ticket.params, ticket.masks)
    state = setup.start_retrain(params, ticket.stats, seeds, emerged_at)
    return Retrain(state, ticket.masks, 0.0, (math.nan,) * len(seeds))


def retrain(
    setup: Setup,
    arm: Any,
    seeds: Sequence[int],
    start: Retrain,
    *,
    log: Callable[[dict], None],
    after_epoch: Callable[[Retrain, np.ndarray], None],
) -> Retrain:
    """Train every seed masked until the schedule's end.

    The record of a seed's epoch e tells of the network after e epochs, search included; the first one is the
    network right after pruning.

    Args:
      setup: data and programs.
      arm: the arm's name.
      seeds: of the cohort.
      start: fresh or from a checkpoint.
      log: takes one record for each seed and epoch; a seed that is through is left out.
      after_epoch: called with the retraining and the epoch of each seed.

    Returns:
      The retraining at its end.

    Raises:
      ValueError: a pruned entry is no longer zero.
    """
    state, masks, seconds, losses = start
    runner = setup.retrain_runner
    runner.compile(state, *setup.train, masks)
    epochs = np.asarray(jax.device_get(state.epoch))
    while True:
        held_out = setup.held_out(state, masks)
        for i, seed in enumerate(seeds):
            if epochs[i] <= setup.config.epochs:
                log(_record(arm, seed, int(epochs[i]), held_out, losses[i], i))
        if epochs.min() >= setup.config.epochs:
            break
        begin = time.perf_counter()
        state, metrics = runner(state, *setup.train, masks)
        losses = tuple(jax.device_get(mean_loss(metrics)).tolist())
        seconds += time.perf_counter() - begin
        epochs = epochs + 1
        after_epoch(Retrain(state, masks, seconds, losses), epochs)
    leaks = jax.device_get(_leaked(state.params, masks))
    if leaks.any():
        raise ValueError(
            f"{int(leaks.sum())} pruned entries of arm {arm!r} are no longer zero: something moved them "
            "that is not masked."
        )
    return Retrain(state, masks, seconds, losses)


def _record(arm: str, seed: int, epoch: int, held_out: dict, loss: float, i: int) -> dict:
    return {
        "kind": "epoch",
        "phase": "retrain",
        "arm": arm,
        "seed": seed,
        "epoch": epoch,
        "train_loss": loss,
        "validation_accuracy": float(held_out["validation"][i]),
        "test_accuracy": float(held_out["test"][i]),
    }
