"""Comparing a shrunk network with the network that it stands for."""

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from wormjax._masks import apply_masks
from wormjax.structure._example_inputs import example_input
from wormjax.structure._planned import Plan
from wormjax.structure._ticket import Ticket

TOLERANCE = 1e-4


def verify_ticket(
    plan: Plan, params: PyTree, state: PyTree | None, carried: tuple[PyTree, PyTree], ticket: Ticket
) -> None:
    """Raise where a ticket computes something else than the masked network on fixed inputs.

    Args:
      plan: what was planned.
      params: the full parameters.
      state: the full state, or None.
      carried: both after the constants of removed units were carried over.
      ticket: what was made of them.
    """
    inputs = jax.tree.map(example_input, plan.groups.inputs)

    def outputs(function, params, state):
        if state is None:
            return jax.tree.leaves(jax.jit(function)(params, *inputs))
        return jax.tree.leaves(jax.jit(function)(params, state, *inputs)[0])

    apply, found = plan.groups.apply, outputs(ticket.apply, ticket.params, ticket.state)
    masked = outputs(apply, apply_masks(carried[0], plan.masks), carried[1])
    _compare(masked, found, "the masked network")
    if plan.given is not None and plan.is_lossless:
        _compare(outputs(apply, apply_masks(params, plan.given), state), found, "the given network")


def _compare(expected: list, found: list, what: str) -> None:
    for want, have in zip(expected, found, strict=True):
        if not jnp.issubdtype(want.dtype, jnp.floating):
            continue
        scale = float(jnp.max(jnp.abs(want))) or 1.0
        error = float(jnp.max(jnp.abs(want - have))) / scale
        if not error <= TOLERANCE:
            raise ValueError(
                f"The shrunk network differs from {what} by {error:.1e} of its largest output. If it draws "
                "random numbers (dropout), compare in deterministic mode; otherwise this is a bug of a rule."
            )
