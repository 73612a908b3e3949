"""A ticket's network without the channels that the ticket prunes."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

import wormjax as wj
from experiments.training import take_seed
from experiments.worm._arms import arm_rules, carried_state
from experiments.worm._search import Search, Ticket
from experiments.worm._setup import Setup
from wormjax import structure
from wormjax._paths import leaf_names


@dataclasses.dataclass(frozen=True, eq=False)
class Shrunk:
    """One seed's network, really smaller.

    Attributes:
      apply: ``apply(params, stats, images, train=False) -> (logits, stats)``, the full network's on small arrays.
      drawn: the ticket as it was drawn, of this seed alone.
      pruned: its parameters, zero where they are pruned.
      plan: which channels went, and what is lost with them.
      ticket: the small arrays and the function in training.
      masks: what the ticket prunes of them and could not remove (a channel of a residual stream that another layer
        keeps), or None where nothing is.
    """

    apply: Callable
    drawn: Ticket
    pruned: PyTree
    plan: structure.Plan
    ticket: structure.Ticket
    masks: PyTree | None


def shrink_ticket(setup: Setup, arm: str, found: Search, place: int) -> Shrunk:
    """Remove the channels that a seed's ticket prunes.

    Args:
      setup: for the channel groups.
      arm: the arm's name.
      found: an ended search.
      place: position of the seed in its cohort; the seed has a ticket.

    Returns:
      The small network; its ``ticket.opt_state`` is the search's optimizer, where the config carries that.

    Raises:
      ValueError: these channels cannot go; the message says why.
    """
    drawn: Ticket = take_seed(found.ticket, place)
    plan = structure.plan(setup.groups, masks=drawn.masks)
    # what is pruned and stays is zero, as it is in masked training
    pruned = _pruned(drawn.params, drawn.masks)
    carried: dict[str, Any] = {}
    if setup.config.shrunk_optimizer == "carried":
        rules = arm_rules(setup.config, arm, jax.random.key(0))
        opt_state = take_seed(carried_state(rules, found.state.opt_state), place)
        carried = {"opt_state": _masked(setup.retrain_tx, opt_state, drawn.masks)}
        carried["tx"] = setup.retrain_tx
    ticket = structure.shrink(plan, pruned, drawn.stats, **carried)
    full, small = setup.full.apply, ticket.apply

    def apply(params, stats, images, train=False):
        # the ticket's function is the one in training; what it keeps holds in evaluation too
        return small.of(functools.partial(full, train=train))(params, stats, images)

    return Shrunk(apply, drawn, pruned, plan, ticket, _left(plan, drawn.masks))


_pruned = jax.jit(wj.apply_masks)  # leaf by leaf it would compile a program for every shape


def _masked(tx: optax.GradientTransformationExtraArgs, opt_state: PyTree, masks: PyTree) -> PyTree:
    """Return an optimizer state without the momentum of pruned entries, which would move them."""

    def still(moment, mask):
        return jnp.where(mask, moment, jnp.zeros((), moment.dtype))

    return optax.tree_map_params(tx, still, opt_state, masks)


def _left(plan: structure.Plan, masks: PyTree) -> PyTree | None:
    """Cut the masks like the parameters; None where they prune nothing any more."""
    small = []
    for name, mask in zip(leaf_names(masks), jax.tree.leaves(masks), strict=True):
        left = np.asarray(mask)
        for axis, kept in plan.indices.get(name, {}).items() if left.ndim else ():
            left = np.take(left, kept, axis=axis)
        small.append(jnp.asarray(left if not left.all() else True))
    if not any(mask.ndim for mask in small):
        return None
    return jax.tree.unflatten(jax.tree.structure(masks), small)
