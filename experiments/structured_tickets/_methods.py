"""From a round of iterative pruning to a structured ticket, and from its weights to a network that runs faster."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

import wormjax as wj
from experiments.structured_tickets._setup import Setup
from wormjax.lottery import (
    Contender,
    Levels,
    Network,
    Refilled,
    Regrouped,
    block_apply,
    branch,
    refill,
    regroup,
)

_DRAW = 2**31 + 21  # folded into a seed's key


class Structured(NamedTuple):
    """A structured ticket before its training.

    Attributes:
      masks: what to train under.
      made: what the library made.
      nominal: fraction of the prunable weights that the masks keep.
      executed: fraction that the small network multiplies with; its inputs that went are counted as well.
    """

    masks: PyTree
    made: Refilled | Regrouped
    nominal: float
    executed: float


def structure(setup: Setup, levels: Levels, method: str, round: int, seed: int) -> Structured:
    """Make a round's mask structured."""
    config, level = setup.config, levels[round]
    params, masks = level.trained.params, level.masks
    if method == "regroup":
        blocks = regroup(setup.groups, masks, settings=config.regrouping, seed=seed)
        return Structured(blocks.masks, blocks, blocks.nominal_density, blocks.executed_density)
    how: dict[str, Any] = {}
    if method == "refill_plus":
        how["rho"] = config.rho
    elif method == "random":
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), np.uint32(_DRAW)), round)
        how = {"score": "random", "key": key}
    elif method == "one_shot":
        params, masks = levels[0].trained.params, branch(levels, round, "one_shot").masks
    found = refill(setup.groups, params, masks, **how)
    return Structured(found.masks, found, found.nominal_density, _left(setup, found))


def contenders(setup: Setup, ticket: Structured, trained: Network) -> dict[str, Contender]:
    """Return the network under its masks, which runs dense, and what is left of it, which must compute the same."""
    params, state = wj.apply_masks(trained.params, ticket.masks), trained.state
    dense = Contender(setup.apply, params, state, ticket.nominal)
    if isinstance(ticket.made, Regrouped):
        blocks = block_apply(setup.groups, ticket.made.blocks, params, state)
        small = Contender(blocks.apply, blocks.params, blocks.state)
    else:
        cut = wj.shrink(ticket.made.plan, params, state=state)
        small = Contender(cut.apply, cut.params, cut.state)
    told = small._replace(nominal=ticket.nominal, executed=ticket.executed, equals="dense")
    return {"dense": dense, "ticket": told}


def _left(setup: Setup, found: Refilled) -> float:
    """Entries of the prunable weights after shrinking, over all of them."""
    indices, kept, total = found.plan.indices, 0, 0
    leaves = zip(
        setup.groups.traced.names,
        jax.tree.leaves(setup.groups.shapes),
        jax.tree.leaves(setup.prunable),
        strict=True,
    )
    for name, like, may in leaves:
        if may:
            cut = indices.get(name, {})
            kept += int(np.prod([len(cut.get(a, range(n))) for a, n in enumerate(like.shape)]))
            total += int(np.prod(like.shape))
    return kept / total
