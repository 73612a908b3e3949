"""Foresight pruning of whole channels, so that the ticket can be shrunk before it is trained."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from wormjax.foresight._batches import check_pruning_batches
from wormjax.foresight._method import Method, as_method
from wormjax.foresight._schedules import Schedule, densities
from wormjax.structure import Groups, Plan, plan


def prune_units(
    score: Method | Callable[[PyTree, Any], PyTree],
    params: PyTree,
    batches: Sequence[Any],
    groups: Groups,
    *,
    keep: float | int | str | Fraction,
    rounds: int | None = None,
    schedule: Schedule = "exponential",
    key: PRNGKeyArray | None = None,
    **settings: Any,
) -> Plan:
    """Prune channels, heads and other units before training, in one round or many.

    In each round all weights are scored at the masks so far, their scores are summed over units, and `wj.plan` keeps
    the units that the schedule allows. Scoring is one program, compiled once; planning is on the host. A unit whose
    weights are masked scores 0 with every method that sees masks and is not asked to return.

    Args:
      score: as for `wj.foresight.prune`.
      params: the parameters that the groups were found with.
      batches: the pruning set, pairs (inputs, labels).
      groups: from `wj.find_groups`.
      keep: fraction of the scored units to keep, before rounding.
      rounds: how often to score; None for what the method's paper does.
      schedule: how the fraction falls.
      key: PRNG key, folded with the round.
      **settings: other settings of `wj.plan`: ``aggregate``, ``normalise``, ``minimum``, ``round_to``, ``exclude``.

    Returns:
      The plan of the last round: `wj.shrink` makes the small network of it.

    Raises:
      ValueError: as `wj.plan` and `wj.foresight.prune`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import wormjax as wj
      >>> params = {"up": jnp.array([[1.0, 3.0, 2.0]]), "down": jnp.ones((3, 2))}
      >>> apply = lambda p, x: jax.nn.relu(x @ p["up"]) @ p["down"]
      >>> x = jnp.ones((4, 1))
      >>> groups = wj.find_groups(apply, params, x)
      >>> method = wj.foresight.methods.synflow_l2(apply)
      >>> plan = wj.foresight.prune_units(method, params, [x], groups, keep="2/3", rounds=2)
      >>> wj.shrink(plan, params).params["up"]
      Array([[3., 2.]], dtype=float32)
    """
    method = as_method(score)
    check_pruning_batches(batches)
    times = (1 if schedule == "one_shot" else method.rounds) if rounds is None else rounds
    falling = densities(schedule, keep, times)
    masks = jax.tree.map(lambda x: jnp.ones(jnp.shape(x), bool), params)
    score_once = jax.jit(method.score)
    for index, fraction in enumerate(falling):
        own = None if key is None else jax.random.fold_in(key, index)
        scores = score_once(params, masks, batches, own)
        decided = plan(groups, scores, keep=fraction, **settings)
        # at full size in every round, so that the program stays the same
        masks = jax.tree.map(
            lambda mask, x: jnp.broadcast_to(mask, jnp.shape(x)), decided.masks, params
        )
    return decided
