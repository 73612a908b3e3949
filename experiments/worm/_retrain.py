"""Retraining of a pruned network, masked or shrunk, on the schedule's remaining epochs."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxtyping import PyTree

from experiments.training import (
    Network,
    TrainState,
    digest,
    stack_seeds,
    take_seed,
    train_rest,
)
from experiments.worm._search import Search
from experiments.worm._setup import Setup
from experiments.worm._shrunk import Shrunk


class Retrain(NamedTuple):
    """Where a retraining stands, and the search that it began with.

    Attributes:
      network: what trains.
      state: the training state; pruned entries are zero in it, or have gone.
      masks: what was pruned and stays so, or what is left of it in a shrunk network; None for nothing.
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


def begin_retrain(setup: Setup, found: Search, seeds: Sequence[int]) -> Retrain:
    """Prune the drawn weights and start a fresh optimizer at the epoch of each ticket."""
    ticket, emerged_at = found.ticket, found.emerged_at
    # a seed without a ticket stands beyond the schedule's end, where it leaves no records
    epochs = [setup.config.epochs + 1 if e is None else e for e in emerged_at]
    params, stats, masks = setup.prune(ticket.params, ticket.stats, ticket.masks)
    return Retrain(
        setup.full,
        setup.start_retrain(params, stats, seeds, epochs),
        masks if setup.config.recover == "masked" else None,
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
    return train_rest(
        start,
        setup.retrain_tx,
        setup.train,
        last=setup.config.epochs,
        seeds=seeds,
        phase="retrain",
        arm=arm,
        log=log,
        after_epoch=after_epoch,
        clock=setup.clock,
    )
