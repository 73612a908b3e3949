"""Writing slices at indices.

    out = operand;  out[index[b] + o] = f(out[index[b] + o], updates[b, o])        f: replace, add, multiply, min, max

The mirror of a gather: an axis that is indexed stays whole, an axis that the updates cover passes, batching axes of
all three are the same axes. The updates along the remaining axes of ``index`` meet in one place, so these stay whole.

Example: ``zeros((V, D)).at[ids].add(x)`` with x (N, D), ids (N,) keeps V and N and passes D.
Jaxpr: ``scatter-add[dimension_numbers=ScatterDimensionNumbers(update_window_dims=(1,), inserted_window_dims=(0,),
scatter_dims_to_operand_dims=(0,), operand_batching_dims=(), scatter_indices_batching_dims=()) ...] operand index
updates`` with index:i32[5,1].
https://docs.jax.dev/en/latest/_autosummary/jax.lax.scatter_add.html
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from wormjax.structure._replay import Evaluate, Replay, Value
from wormjax.structure._trace import Axes, Propagate, Walk, shape_of
from wormjax.structure.rules import _passing

NAMES = ("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max")
_NEUTRAL = {"scatter-add": 0, "scatter-sub": 0, "scatter-mul": 1}  # updates that change nothing


@dataclasses.dataclass(frozen=True)
class Place:
    """The axes of (operand, index, updates) that are one axis; None where it has none."""

    operand: int | None
    index: int | None
    updates: int


def places(eqn: JaxprEqn) -> list[Place]:
    """Say what each axis of a scatter's updates is."""
    numbers = eqn.params["dimension_numbers"]
    gone = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    window = iter(k for k in range(len(shape_of(eqn.invars[0]))) if k not in gone)
    batch = iter(range(len(shape_of(eqn.invars[1])) - 1))
    paired = dict(
        zip(numbers.scatter_indices_batching_dims, numbers.operand_batching_dims, strict=True)
    )
    found = []
    for axis in range(len(shape_of(eqn.invars[2]))):
        if axis in numbers.update_window_dims:
            found.append(Place(next(window), None, axis))
        else:
            k = next(batch)
            found.append(Place(paired.get(k), k, axis))
    return found


def propagate(
    walk: Walk, eqn: JaxprEqn, operand: Axes, index: Axes, updates: Axes
) -> Sequence[Axes]:
    """Pass what the updates cover; keep what is indexed."""
    numbers = eqn.params["dimension_numbers"]
    indexed = [operand[k] for k in numbers.scatter_dims_to_operand_dims]
    walk.fix(eqn, indexed, "it is written to by index")
    walk.fix(eqn, index[-1:], "it lists the axes that are written to by index")
    for place in places(eqn):
        dim = updates[place.updates]
        if place.operand is None:
            assert place.index is not None
            meeting = (dim, index[place.index])
            walk.fix(eqn, meeting, "slices along this axis are written to one place")
            continue
        target = operand[place.operand]
        if place.index is not None:
            walk.unify(eqn, (target, target), (dim, index[place.index]))
        elif target.size == dim.size:
            walk.unify(eqn, (target,), (dim,))
        else:
            walk.fix(eqn, (target, dim), "a part of it is written to")
    return [operand]


def evaluate(run: Replay, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """Write what is kept."""
    by_operand = {p.operand: p for p in places(eqn)}

    def carried(_: int, axis: int) -> Sequence[int | None]:
        place = by_operand.get(axis)
        return (axis, None, None) if place is None else (axis, place.index, place.updates)

    def constant(_: int, numbers: list[Any]) -> Any:
        before, update = numbers[0], numbers[-1]
        neutral = _NEUTRAL.get(eqn.primitive.name, before)
        return before if update == neutral else None

    return _passing.evaluate(eqn, operands, carried, constant=constant)


PROPAGATE: dict[str, Propagate] = dict.fromkeys(NAMES, propagate)
EVALUATE: dict[str, Evaluate] = dict.fromkeys(NAMES, evaluate)
