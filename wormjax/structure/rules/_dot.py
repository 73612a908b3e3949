"""Contractions.

    out[b, i, j] = sum_k lhs[b, i, k] * rhs[b, k, j]

Batch axes of the two operands are the same axes, contracted ones too; free axes pass to the result, in the order
batch, free of lhs, free of rhs. A product of removed entries along k contributes nothing where one factor's removed
entries are zero (a masked weight's are); else it is added once per removed entry.

Example: ``x @ w`` with x (N, C), w (C, D) ties x's C with the rows of w, and D is free.
Jaxpr: invars (lhs, rhs); params dimension_numbers ((lhs_contracting, rhs_contracting), (lhs_batch, rhs_batch)),
precision, preferred_element_type, out_sharding. Ragged and scaled variants have no rule, so they are barriers.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.dot_general.html
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from wormjax.structure._replay import Evaluate, Ghost, Replay, Value, bind
from wormjax.structure._trace import Axes, Propagate, Walk, shape_of
from wormjax.structure.rules._passing import beside, is_zero, spread, zero


class Layout(NamedTuple):
    """Which axis of an operand plays which part.

    Attributes:
      contracting: of lhs and of rhs, paired.
      batch: of lhs and of rhs, paired.
      free: the remaining ones of lhs and of rhs.
    """

    contracting: tuple[tuple[int, ...], tuple[int, ...]]
    batch: tuple[tuple[int, ...], tuple[int, ...]]
    free: tuple[list[int], list[int]]


def layout(eqn: JaxprEqn) -> Layout:
    """Read the dimension numbers of a ``dot_general``."""
    contracting, batch = eqn.params["dimension_numbers"]
    free = [
        [k for k in range(len(shape_of(v))) if k not in c and k not in b]
        for v, c, b in zip(eqn.invars, contracting, batch, strict=True)
    ]
    return Layout(contracting, batch, (free[0], free[1]))


def propagate(walk: Walk, eqn: JaxprEqn, lhs: Axes, rhs: Axes) -> Sequence[Axes]:
    """Tie batch axes and contracted axes; pass the free ones."""
    at = layout(eqn)
    for left, right in (at.batch, at.contracting):
        walk.unify(eqn, tuple(lhs[k] for k in left), tuple(rhs[k] for k in right))
    left_free, right_free = at.free
    return [(*(lhs[k] for k in (*at.batch[0], *left_free)), *(rhs[k] for k in right_free))]


class Operand(NamedTuple):
    """An operand, and what its removed entries along each contracted axis hold.

    Attributes:
      array: the kept entries.
      ghosts: one for each contracted axis, in the equation's order.
    """

    array: Any
    ghosts: Sequence[Ghost]


def _contract(run: Replay, eqn: JaxprEqn, lhs: Operand, rhs: Operand) -> Any:
    """The contraction at full size of operands at kept sizes; None where removed entries are unknown."""
    (left, right), axes = layout(eqn).contracting, run.scope.of(eqn.invars[0])
    lacking = [
        (k, i, j)
        for k, (i, j) in enumerate(zip(left, right, strict=True))
        if run.is_pruned(axes[i]) and not is_zero(lhs.ghosts[k]) and not is_zero(rhs.ghosts[k])
    ]
    result = bind(eqn, [lhs.array, rhs.array])[0]
    if not lacking:
        return result
    if len(lacking) > 1:
        return None
    [(k, i, j)] = lacking
    slices = [spread(lhs.ghosts[k], lhs.array, i), spread(rhs.ghosts[k], rhs.array, j)]
    if any(x is None for x in slices):
        return None
    return result + bind(eqn, slices)[0] * jnp.asarray(run.removed(axes[i]), result.dtype)


def evaluate(run: Replay, eqn: JaxprEqn, lhs: Value, rhs: Value) -> Sequence[Value]:
    """Contract what is kept and add what the removed entries contribute."""
    at, axes = layout(eqn), run.scope.of(eqn.invars[0])

    def operand(side: int, value: Value) -> Operand:
        # an axis that keeps everything has no removed entries to ask for
        ghosts = [
            value.ghost(k) if run.is_pruned(axes[i]) else None
            for k, i in zip(at.contracting[side], at.contracting[0], strict=True)
        ]
        return Operand(value.array, ghosts)

    sides = operand(0, lhs), operand(1, rhs)
    result = _contract(run, eqn, *sides)
    if result is None:
        raise run.error(
            eqn,
            "it sums over a pruned axis whose removed entries are not zero and cannot be derived; "
            "leave the group whole.",
        )

    def ghost(axis: int) -> Ghost:
        n, m = len(at.batch[0]), len(at.free[0])
        if axis < n:
            moved: tuple[int | None, int | None] = at.batch[0][axis], at.batch[1][axis]
        elif axis < n + m:
            moved = at.free[0][axis - n], None
        else:
            moved = None, at.free[1][axis - n - m]
        narrowed = []
        for value, side, k in zip((lhs, rhs), sides, moved, strict=True):
            if k is None:
                narrowed.append(side)
                continue
            found = value.ghost(k)
            if is_zero(found):
                return zero(result)
            narrowed.append(
                Operand(spread(found, value.array, k), [beside(g) for g in side.ghosts])
            )
        if any(side.array is None for side in narrowed):
            return None
        return _contract(run, eqn, *narrowed)

    return [Value(result, ghost)]


PROPAGATE: dict[str, Propagate] = {"dot_general": propagate}
EVALUATE: dict[str, Evaluate] = {"dot_general": evaluate}
