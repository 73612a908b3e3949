"""Retraining of a pruned network, masked or shrunk, on the schedule's remaining epochs."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

import wormjax as wj
from experiments.training import PerSeed, TrainState, digest, mean_loss, stack_seeds, take_seed
from experiments.worm._network import Network
from experiments.worm._search import Search, Ticket
from experiments.worm._setup import Setup
from experiments.worm._shrunk import Shrunk


class Retrain(NamedTuple):
    """Where a retraining stands, and the search that it began with.

    Attributes:
      network: what trains.
      state: the training state; pruned entries are zero in it, or have gone.
      masks: the tickets' masks, or what is left of them in a shrunk network, None for nothing.
      emerged_at: for each seed the epoch of its ticket; None for one that has none and runs idle beside
        the others.
      search_seconds: what the search took.
      seconds: training time, without compilation and evaluation.
      losses: for each seed the mean training loss of the last epoch, NaN before the first.
      weights: for each seed the digest of its weights when its training ended, None before.
      share: what a step costs in multiply-accumulates, as a share of the full network's.
    """

    network: Network
    state: TrainState
    masks: PyTree | None
    emerged_at: tuple[int | None, ...]
    search_seconds: float
    seconds: float
    losses: tuple[float, ...]
    weights: tuple[str | None, ...]
    share: float = 1.0


@PerSeed
def _prune(ticket: Ticket) -> tuple[PyTree, PyTree]:
    """Return pruned weights and the model's other state, in buffers of their own: training donates them."""
    return wj.apply_masks(ticket.params, ticket.masks), ticket.stats


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


def begin_retrain(setup: Setup, found: Search, seeds: Sequence[int]) -> Retrain:
    """Prune the drawn weights and start a fresh optimizer at the epoch of each ticket."""
    ticket, emerged_at = found.ticket, found.emerged_at
    # a seed without a ticket stands beyond the schedule's end, where it leaves no records
    epochs = [setup.config.epochs + 1 if e is None else e for e in emerged_at]
    params, stats = _prune(ticket)
    return Retrain(
        setup.full,
        setup.start_retrain(params, stats, seeds, epochs),
        ticket.masks,
        emerged_at,
        found.seconds,
        0.0,
        (math.nan,) * len(seeds),
        tuple(
            digest(take_seed(found.state.params, i)) if e is None else None
            for i, e in enumerate(emerged_at)
        ),
    )


def begin_shrunk(setup: Setup, found: Search, seeds: Sequence[int], small: Shrunk) -> Retrain:
    """Do the same with one seed's shrunk network, whose optimizer may be the search's.

    Args:
      setup: for its settings.
      found: the ended search of one seed.
      seeds: that one.
      small: its network.
    """
    [epoch], ticket = found.emerged_at, small.ticket
    assert epoch is not None  # else there was nothing to shrink
    trees = (ticket.params, ticket.state, ticket.opt_state, small.masks)
    params, stats, opt_state, masks = stack_seeds([trees])
    return Retrain(
        setup.network(small.apply),
        setup.start_retrain(params, stats, seeds, [epoch], opt_state),
        masks,
        found.emerged_at,
        found.seconds,
        0.0,
        (math.nan,),
        (None,),
        small.plan.macs[1] / small.plan.macs[0],
    )


def retrain(
    setup: Setup,
    arm: Any,
    seeds: Sequence[int],
    start: Retrain,
    *,
    log: Callable[[dict], None],
    after_epoch: Callable[[Retrain], None],
) -> Retrain:
    """Train every seed until the schedule's end.

    The record of a seed's epoch e tells of the network after e epochs, search included; the first one is the
    network right after pruning.

    Args:
      setup: data and programs.
      arm: the arm's name.
      seeds: of the cohort.
      start: fresh or from a checkpoint.
      log: takes one record for each seed and epoch; a seed that is through is left out.
      after_epoch: called with the retraining, where a checkpoint may be saved.

    Returns:
      The retraining at its end.

    Raises:
      ValueError: a loss is not finite, or a pruned entry is no longer zero.
    """
    now, masks, last = start, start.masks, setup.config.epochs
    runner = start.network.runner("retrain", setup.retrain_tx)
    runner.compile(now.state, *setup.train, masks)
    epochs = np.asarray(jax.device_get(now.state.epoch))
    while True:
        held_out = start.network.held_out(now.state, masks)
        weights = list(now.weights)
        for i, seed in enumerate(seeds):
            if epochs[i] <= last:
                log(_record(arm, seed, int(epochs[i]), held_out, now.losses[i], i))
            if epochs[i] == last:
                weights[i] = digest(take_seed(now.state.params, i))
        now = now._replace(weights=tuple(weights))
        if epochs.min() >= last:
            break
        begin = time.perf_counter()
        state, metrics = runner(now.state, *setup.train, masks)
        losses = tuple(jax.device_get(mean_loss(metrics)).tolist())
        seconds = now.seconds + time.perf_counter() - begin
        now = now._replace(state=state, losses=losses, seconds=seconds)
        epochs = epochs + 1
        for seed, epoch, loss in zip(seeds, epochs, losses, strict=True):
            if epoch <= last and not math.isfinite(loss):
                raise ValueError(
                    f"The training loss of arm {arm!r}, seed {seed}, is {loss} in epoch {epoch} of "
                    "retraining. Lower learning_rate."
                )
        after_epoch(now)
    leaks = 0 if masks is None else int(jax.device_get(_leaked(now.state.params, masks)).sum())
    if leaks:
        raise ValueError(
            f"{leaks} pruned entries of arm {arm!r} are no longer zero: something moved them "
            "that is not masked."
        )
    return now


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
