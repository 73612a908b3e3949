"""Tickets of several seeds at shared widths, so that one program trains them all.

Seeds keep different units of a group, and different numbers of them. Padded to the widest, their arrays have the same
shapes and stack; the padding is units that the plan removes, with all their parameter slices zero.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jaxtyping import PyTree

from wormjax.structure._planned import Plan
from wormjax.structure._ticket import Ticket


class StackedTickets(NamedTuple):
    """Tickets with equal shapes, in front of whose arrays there is an axis of tickets.

    Attributes:
      apply: the function of a single ticket; `jax.vmap` it over the trees.
      params: the parameters.
      state: the states, or None.
      opt_state: the optimizer states, or None.
      like_params: the trees like parameters.
    """

    apply: Callable[..., Any]
    params: PyTree
    state: PyTree | None
    opt_state: PyTree | None
    like_params: tuple[PyTree, ...]


def shared_widths(plans: Sequence[Plan]) -> dict[str, int]:
    """Return for each group the largest number of units that any of the plans keeps.

    Args:
      plans: of the same network, such as one for each seed.

    Raises:
      ValueError: no plan, or their groups differ.

    Example:
      >>> import jax.numpy as jnp
      >>> import wormjax as wj
      >>> params = {"a": jnp.ones((1, 3)), "b": jnp.ones((3, 1))}
      >>> groups = wj.find_groups(lambda p, x: x @ p["a"] @ p["b"], params, jnp.ones((4, 1)))
      >>> masks = [{"a": jnp.array([row], bool), "b": jnp.ones((), bool)} for row in ([1, 0, 0], [0, 1, 1])]
      >>> plans = [wj.plan(groups, masks=m) for m in masks]
      >>> shared_widths(plans)
      {'a:1': 2}
    """
    if not plans:
        raise ValueError("shared_widths needs at least one plan.")
    sizes = [{group.name: group.size for group in plan.groups} for plan in plans]
    for k, other in enumerate(sizes):
        if other != sizes[0]:
            odd = sorted(set(other.items()) ^ set(sizes[0].items()))[0][0]
            raise ValueError(
                f"Plans 0 and {k} are of different networks: group {odd!r} is not the same in both."
            )
    return {name: max(plan.widths[name] for plan in plans) for name in sizes[0]}


def padded(plan: Plan, widths: Mapping[str, int]) -> Plan:
    """Return a plan that keeps more units: the first of those that it would remove, in their order.

    Args:
      plan: the plan.
      widths: how many units each group shall have; a group that is not named keeps its own.

    Raises:
      ValueError: a group is unknown, would have fewer units than the plan keeps, or more than it has.
    """
    kept = dict(plan.kept)
    for name, width in widths.items():
        if name not in kept:
            raise ValueError(f"pad_to names a group {name!r}; there are {sorted(kept)}.")
        if not plan.widths[name] <= width <= len(kept[name]):
            raise ValueError(
                f"pad_to={width} for group {name!r}, of whose {len(kept[name])} units the plan keeps "
                f"{plan.widths[name]}: it can be padded to no fewer than it keeps and no more than it has."
            )
        more = np.flatnonzero(~kept[name])[: width - plan.widths[name]]
        kept[name] = kept[name] | np.isin(np.arange(len(kept[name])), more)
    return dataclasses.replace(plan, kept=kept)


def stack_tickets(tickets: Sequence[Ticket], *inputs: PyTree) -> StackedTickets:
    """Stack tickets of equal shapes for one program, after a look at whether they have one.

    The first ticket's function serves all, which is right where it depends on how many units are kept and not on
    which. It depends on that where a pruned axis meets something that is not of the parameters: the angles of rotary
    embeddings, positions, arrays that the function captures, random numbers. All tickets are traced to find out.

    Args:
      tickets: from ``shrink(..., pad_to=shared_widths(plans))``.
      inputs: example inputs, arrays or `jax.ShapeDtypeStruct`; by default those that the groups were found on.

    Returns:
      `StackedTickets`.

    Raises:
      ValueError: shapes or programs differ; the message says where.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import wormjax as wj
      >>> params = {"a": jnp.array([[1.0, 3.0, 2.0]]), "b": jnp.ones((3, 1))}
      >>> def apply(params, x):
      ...     return jnp.tanh(x @ params["a"]) @ params["b"]
      >>> groups = wj.find_groups(apply, params, jnp.ones((4, 1)))
      >>> masks = [{"a": jnp.array([row], bool), "b": jnp.ones((), bool)} for row in ([1, 0, 0], [0, 1, 1])]
      >>> plans = [wj.plan(groups, masks=m) for m in masks]
      >>> widths = shared_widths(plans)
      >>> seeds = stack_tickets([wj.shrink(p, params, pad_to=widths) for p in plans])
      >>> print(seeds.params["a"].tolist())
      [[[1.0, 0.0]], [[3.0, 2.0]]]
      >>> jax.vmap(seeds.apply, in_axes=(0, None))(seeds.params, jnp.ones((4, 1))).shape
      (2, 4, 1)
    """
    if not tickets:
        raise ValueError("stack_tickets needs at least one ticket.")
    first, *others = tickets
    for k, other in enumerate(others, start=1):
        _check_shapes(first, other, k)
    program = _program(first, inputs)
    for k, other in enumerate(others, start=1):
        if _program(other, inputs) != program:
            raise ValueError(
                f"Tickets 0 and {k} have the same shapes and different programs: what they compute depends on which "
                "units are kept, as where the positions along a pruned axis count (rotary embeddings, captured arrays, "
                "random numbers). Leave these groups whole (exclude= of plan), or run the tickets one by one."
            )
    trees = [(t.params, t.state, t.opt_state, t.like_params) for t in tickets]
    return StackedTickets(first.apply, *jax.tree.map(lambda *xs: jnp.stack(xs), *trees))


def _check_shapes(first: Ticket, other: Ticket, k: int) -> None:
    for name, width in first.widths.items():
        if other.widths.get(name) != width:
            raise ValueError(
                f"Parameter {name!r} has shape {width} in ticket 0 and {other.widths.get(name)} in ticket {k}: shrink "
                "with pad_to=shared_widths(plans)."
            )
    rest: list[Any] = [
        jax.tree.structure((t.state, t.opt_state, t.like_params)) for t in (first, other)
    ]
    if rest[0] != rest[1]:
        raise ValueError(
            f"Tickets 0 and {k} differ in what they hold besides parameters: give shrink the same arguments for all."
        )


def _program(ticket: Ticket, inputs: Sequence[PyTree]) -> tuple[str, list[tuple[str, bytes]]]:
    """What a ticket's function does, in text, and the arrays that stand in it."""
    given = inputs or ticket.apply.inputs
    if given is None:
        raise ValueError(
            "A loaded ticket does not know its inputs: pass examples, arrays or jax.ShapeDtypeStruct."
        )
    rest = given if ticket.state is None else (ticket.state, *given)
    closed = jax.make_jaxpr(ticket.apply)(ticket.params, *rest)
    text = re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr))  # functions are told by their address
    arrays = [np.asarray(c) for c in _constants(closed)]
    return text, [(f"{x.dtype}{x.shape}", x.tobytes()) for x in arrays]


def _constants(closed: ClosedJaxpr) -> list[Any]:
    """The arrays of a program and of those inside it."""
    found = list(closed.consts)
    for eqn in closed.jaxpr.eqns:
        leaves = jax.tree.leaves(tuple(eqn.params.values()))
        found += [c for x in leaves if isinstance(x, ClosedJaxpr) for c in _constants(x)]
    return found
