"""Search: train, and ask the detector at the top of every epoch whether the ticket is there."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

import wormjax as wj
from experiments.training import PerSeed, TrainState, mask_text, mean_loss
from experiments.worm._setup import Setup
from wormjax._opt_state import find_states
from wormjax._selection import ranked


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ticket:
    """What was drawn, every leaf with a leading seed axis.

    Attributes:
      params: the weights that were judged.
      stats: the model's other state then.
      masks: the ticket's channel masks, on scale and shift.
    """

    params: PyTree
    stats: PyTree
    masks: PyTree


class Search(NamedTuple):
    """Where a search stands, and how it ended.

    Attributes:
      state: the training state.
      ticket: drawn weights and masks; the present ones for a seed that has no ticket.
      emerged_at: for each seed the epochs trained when its ticket emerged, None before.
      seconds: training and detection, without compilation and evaluation.
      losses: for each seed the mean training loss of the last epoch, NaN before the first.
      ended: whether every seed has its ticket, or the cap is reached.
    """

    state: TrainState
    ticket: Ticket
    emerged_at: tuple[int | None, ...]
    seconds: float
    losses: tuple[float, ...]
    ended: bool = False


class _Reading(NamedTuple):
    """What a detection says, on the device."""

    emerged: Any
    largest: Any
    mean: Any
    of_leaves: Any
    factor: Any
    degenerate: Any
    mask: Any
    kept: Any


@PerSeed
def _detect(params: PyTree, opt_state: PyTree) -> tuple[PyTree, _Reading]:
    opt_state = wj.detect(params, opt_state)
    [worm] = find_states(opt_state, wj.WormState)
    detector = worm.detector
    newest = ranked(detector.newest)
    reading = _Reading(
        detector.emerged,
        detector.largest_distance,
        detector.mean_distance,
        jnp.max(detector.leaf_distances, axis=0),
        worm.truncation.factor,
        detector.degenerate,
        jnp.concatenate([m.ravel() for m in newest]),
        jnp.stack([jnp.sum(m, dtype=jnp.int32) for m in newest]),
    )
    return opt_state, reading


@PerSeed
def _ticket(state: TrainState) -> Ticket:
    masks = wj.early_bird_state(state.opt_state).masks
    return Ticket(state.params, state.stats, wj.extend_to_shift(state.params, masks))


@jax.jit
def _keep(drawn: Any, kept: Ticket, present: Ticket) -> Ticket:
    """Keep the tickets of the seeds in ``drawn`` and take the present weights of the others."""

    def leaf(old, new):
        return jnp.where(drawn.reshape(drawn.shape + (1,) * (old.ndim - 1)), old, new)

    return jax.tree.map(leaf, kept, present)


def compile_seconds() -> float:
    """Time that compiling the detection took so far."""
    return _detect.compile_seconds + _ticket.compile_seconds


def begin_search(state: TrainState) -> Search:
    """Return the search before its first epoch."""
    seeds = state.epoch.shape[0]
    return Search(state, _ticket(state), (None,) * seeds, 0.0, (math.nan,) * seeds)


def search(
    setup: Setup,
    arm: Any,
    seeds: Sequence[int],
    start: Search,
    *,
    stop: bool,
    epochs: int,
    log: Callable[[dict], None],
    after_epoch: Callable[[Search], None],
) -> Search:
    """Train until every seed has its ticket, or for ``epochs`` epochs.

    Args:
      setup: data and programs.
      arm: the arm's name.
      seeds: of the cohort.
      start: where to begin, fresh or from a checkpoint.
      stop: stop when all tickets have emerged; False trains on.
      epochs: the cap.
      log: takes one record for each seed at the top of every epoch, up to the one of its ticket.
      after_epoch: called with the search, where a checkpoint may be saved.

    Returns:
      The search at its end; a seed whose ``emerged_at`` is None has no ticket.

    Raises:
      ValueError: a score was NaN or infinite.
    """
    state, ticket, emerged_at, seconds, losses, _ = start
    runner = setup.search_runner(arm)
    runner.compile(state, *setup.train)
    _detect.compile(state.params, state.opt_state)
    epoch = int(state.epoch[0])
    while True:
        with setup.clock("detect") as span:
            opt_state, reading = span.wait(_detect(state.params, state.opt_state))
        seconds += span.seconds
        reading = jax.device_get(reading)
        state = dataclasses.replace(state, opt_state=opt_state)
        wj.check(opt_state)
        known = np.array([e is not None for e in emerged_at])
        ticket = _keep(known, ticket, _ticket(state))
        emerged_at = tuple(
            epoch if new and old is None else old
            for old, new in zip(emerged_at, reading.emerged, strict=True)
        )
        with setup.clock("evaluate"):
            held_out = setup.full.held_out(state)
        for i, seed in enumerate(seeds):
            if not known[i] or not stop:  # under vmap it trains on until all are through
                log(_record(arm, seed, epoch, reading, held_out, losses[i], i))
        if epoch == epochs or (stop and all(e is not None for e in emerged_at)):
            return Search(state, ticket, emerged_at, seconds, losses, ended=True)
        with setup.clock("train") as span:
            state, metrics = span.wait(runner(state, *setup.train))
        seconds += span.seconds
        losses = tuple(jax.device_get(mean_loss(metrics)).tolist())
        epoch += 1
        after_epoch(Search(state, ticket, emerged_at, seconds, losses))


def _record(
    arm: str, seed: int, epoch: int, reading: _Reading, held_out: dict, loss: float, i: int
) -> dict:
    return {
        "kind": "epoch",
        "phase": "search",
        "arm": arm,
        "seed": seed,
        "epoch": epoch,
        "train_loss": loss,
        "validation_accuracy": float(held_out["validation"][i]),
        "test_accuracy": float(held_out["test"][i]),
        "emerged": bool(reading.emerged[i]),
        "largest_distance": float(reading.largest[i]),
        "mean_distance": float(reading.mean[i]),
        "leaf_distances": [float(d) for d in reading.of_leaves[i]],
        "factor": float(reading.factor[i]),
        "degenerate": bool(reading.degenerate[i]),
        "kept": [int(k) for k in reading.kept[i]],
        "mask": mask_text(reading.mask[i]),
    }
