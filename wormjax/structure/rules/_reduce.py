"""Reductions.

    out[i] = f_k x[i, k]        f: sum, product, max, min, and, or, xor, argmax, argmin; k over ``axes``

The other axes pass. A pruned k is reduced over what it keeps and then over what it lost: its removed entries are
equal, so a sum adds their value times their number, a product multiplies by a power, a maximum looks once; those that
differ, as beside a captured array, are reduced one by one. So the mean of 3 of 4 channels is their sum, plus the
removed one, over 4. An argmax counts positions, and a reduction by a function of the user's sees every entry: both keep
k whole.

Example: mean and variance of a LayerNorm over 6 channels of which 2 are zero; the variance adds 2 * mean ** 2.
Jaxpr: ``reduce_sum[axes=(1,)] a`` with a:f32[2,6]; ``argmax[axes=(1,) index_dtype=int32] a``;
``reduce[dimensions=(1,) jaxpr=...] a 0.0``, all operands and then all initial values.
https://docs.jax.dev/en/latest/jax.lax.html
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from wormjax.structure._replay import Evaluate, Ghost, Replay, Uniform, Value, bind
from wormjax.structure._trace import Axes, Propagate, Walk, shape_of
from wormjax.structure.rules import _passing


def _reduced(eqn: JaxprEqn) -> tuple[int, ...]:
    axes = eqn.params["axes" if "axes" in eqn.params else "dimensions"]
    return tuple(int(axis) % len(shape_of(eqn.invars[0])) for axis in axes)


def _left(eqn: JaxprEqn) -> list[int]:
    """The operand's axes that the result has."""
    rank = len(shape_of(eqn.invars[0]))
    return [k for k in range(rank) if k not in _reduced(eqn)]


def propagate(walk: Walk, eqn: JaxprEqn, operand: Axes) -> Sequence[Axes]:
    """Pass the axes that are left."""
    return [tuple(operand[k] for k in _left(eqn))]


def propagate_positions(walk: Walk, eqn: JaxprEqn, operand: Axes) -> Sequence[Axes]:
    """Pass the axes that are left; positions on the reduced one would shift."""
    walk.fix(eqn, [operand[k] for k in _reduced(eqn)], "positions along this axis are a result")
    return propagate(walk, eqn, operand)


def propagate_any(walk: Walk, eqn: JaxprEqn, *operands: Axes) -> Sequence[Axes]:
    """Tie the operands and pass the axes that are left; the function may do anything to the others."""
    first, *others = operands[: len(eqn.outvars)]
    for other in others:
        walk.unify(eqn, first, other)
    walk.fix(eqn, [first[k] for k in _reduced(eqn)], "a function of the program reduces this axis")
    return [tuple(first[k] for k in _left(eqn)) for _ in eqn.outvars]


def pass_through(run: Replay, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """Reduce axes that are whole."""
    left, count = _left(eqn), len(eqn.outvars)
    initial = [None] * (len(operands) - count)
    return _passing.evaluate(eqn, operands, lambda _, axis: [left[axis]] * count + initial)


@dataclasses.dataclass(frozen=True)
class Lot:
    """Removed entries of one kind.

    Attributes:
      entries: a number, or an array along the removed axis: of size 1, or of all of them where they differ.
      count: how often each of them occurs under one entry of the result.
    """

    entries: Uniform | jax.Array
    count: int


def _lots(
    run: Replay, axes: Axes, reduced: Sequence[int], ghosts: dict[int, Ghost]
) -> list[Lot] | None:
    """Count the removed entries along all reduced axes; None where they are unknown."""
    pruned = [k for k in reduced if run.is_pruned(axes[k])]
    alike = [k for k in pruned if isinstance(ghosts[k], Uniform)]
    odd = [k for k in pruned if k not in alike]
    if len(odd) > 1 or any(ghosts[k] is None for k in odd):
        return None
    lots = []
    for k in odd:
        entries = ghosts[k]
        assert entries is not None
        assert not isinstance(entries, Uniform)
        lots.append(Lot(entries, run.removed(axes[k]) // entries.shape[k]))
    if alike:  # where two axes lose entries, these are counted once
        rest = math.prod(run.size(axes[k]) if k in alike else axes[k].size for k in reduced)
        everything = math.prod(axes[k].size for k in reduced)
        lots.append(Lot(ghosts[alike[0]], everything - rest))  # type: ignore[arg-type]
    return lots


def _times(part: Any, count: int) -> Any:
    return part * np.asarray(count).astype(part.dtype)


def _once(part: Any, count: int) -> Any:
    return part


def _parity(part: Any, count: int) -> Any:
    return part if count % 2 else part ^ part


class Monoid(NamedTuple):
    """What a reduction does with two parts, and with one part that occurs several times."""

    join: Callable[[Any, Any], Any]
    repeat: Callable[[Any, int], Any]


_MONOIDS = {
    "reduce_sum": Monoid(lax.add, _times),
    "reduce_prod": Monoid(lax.mul, lambda part, count: part**count),
    "reduce_max": Monoid(lax.max, _once),
    "reduce_min": Monoid(lax.min, _once),
    "reduce_and": Monoid(lax.bitwise_and, _once),
    "reduce_or": Monoid(lax.bitwise_or, _once),
    "reduce_xor": Monoid(lax.bitwise_xor, _parity),
}


def _whole(eqn: JaxprEqn, array: Any, lots: Sequence[Lot]) -> Any:
    """Reduce what is kept together with what was removed."""
    shape = [1 if k in _reduced(eqn) else n for k, n in enumerate(array.shape)]
    name, monoid = eqn.primitive.name, _MONOIDS[eqn.primitive.name]
    lots = [lot for lot in lots if name != "reduce_sum" or not _passing.is_zero(lot.entries)]
    parts = [
        jnp.full(shape, lot.entries.number) if isinstance(lot.entries, Uniform) else lot.entries
        for lot in lots
    ]
    if parts and name in ("reduce_max", "reduce_min") and jnp.issubdtype(array.dtype, jnp.floating):
        return _extreme(eqn, [lot.count for lot in lots])(array, parts)
    total = bind(eqn, [array])[0]
    for part, lot in zip(parts, lots, strict=True):
        total = monoid.join(total, monoid.repeat(bind(eqn, [part])[0], lot.count))
    return total


def _extreme(eqn: JaxprEqn, counts: Sequence[int]) -> Callable[[Any, Sequence[Any]], Any]:
    """A maximum or minimum whose derivative the ties share as at full size, removed entries included."""
    axes, join = _reduced(eqn), _MONOIDS[eqn.primitive.name].join

    @jax.custom_jvp
    def extreme(array: Any, parts: Sequence[Any]) -> Any:
        total = bind(eqn, [array])[0]
        for part in parts:
            total = join(total, bind(eqn, [part])[0])
        return total

    @extreme.defjvp
    def _(primals: Any, tangents: Any) -> tuple[Any, Any]:
        found = extreme(*primals)
        values, moves = [primals[0], *primals[1]], [tangents[0], *tangents[1]]
        ties = moved = jnp.zeros_like(found)
        for value, move, count in zip(values, moves, [1, *counts], strict=True):
            chosen = _times((value == lax.expand_dims(found, axes)).astype(found.dtype), count)
            ties += jnp.sum(chosen, axes)
            moved += jnp.sum(chosen * move, axes)
        return found, moved / ties

    return extreme


def evaluate(run: Replay, eqn: JaxprEqn, operand: Value) -> Sequence[Value]:
    """Reduce what is kept, and account for what was removed."""
    axes, reduced = run.scope.of(eqn.invars[0]), _reduced(eqn)
    ghosts: dict[int, Ghost] = dict.fromkeys(reduced)
    for k in filter(lambda k: run.is_pruned(axes[k]), reduced):
        ghosts[k] = operand.ghost(k)
        if ghosts[k] is None:
            ghosts[k] = operand.each(k)
    lots = _lots(run, axes, reduced, ghosts)
    if lots is None:
        raise run.error(
            eqn,
            "it reduces a pruned axis whose removed entries differ or cannot be derived; "
            "leave the group whole.",
        )
    result = _whole(eqn, operand.array, lots)

    def ghost(axis: int) -> Ghost:
        found = operand.ghost(_left(eqn)[axis])
        if isinstance(found, Uniform):
            count = math.prod(axes[k].size for k in reduced)
            number = _MONOIDS[eqn.primitive.name].repeat(found.number, count)
            return Uniform(np.asarray(number, result.dtype))
        there = _lots(run, axes, reduced, {k: _passing.beside(g) for k, g in ghosts.items()})
        return None if found is None or there is None else _whole(eqn, found, there)

    return [Value(result, ghost)]


PROPAGATE: dict[str, Propagate] = {
    **dict.fromkeys(_MONOIDS, propagate),
    **dict.fromkeys(("argmax", "argmin"), propagate_positions),
    "reduce": propagate_any,
}
EVALUATE: dict[str, Evaluate] = {
    **dict.fromkeys(_MONOIDS, evaluate),
    **dict.fromkeys(("argmax", "argmin", "reduce"), pass_through),
}
