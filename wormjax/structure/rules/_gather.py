"""Looking up slices at indices.

    out[b, o] = operand[start[b] + o]        o runs over a window of ``slice_sizes``

An axis that is indexed stays whole, unless ``start`` is a list that the program's text tells (`_listed`), and so does
one of which the window takes a part. An axis that the window takes whole passes; an indexed one too where starts are
clamped, since only 0 is within the bounds. Axes of ``start`` pass, and batching axes of both are the same axes. The
positions along the last axis of ``start`` name the operand's axes.

Example: ``table[ids]`` with table (V, D), ids (N, T) keeps V and passes D: out (N, T, D). ``h[:, [2, 0, 1]]`` permutes
the channels of h.
Jaxpr: ``gather[dimension_numbers=GatherDimensionNumbers(offset_dims=(2,), collapsed_slice_dims=(0,),
start_index_map=(0,), operand_batching_dims=(), start_indices_batching_dims=()) slice_sizes=(1, 4) mode=...
fill_value=None ...] table starts`` with starts:i32[2,3,1].
https://docs.jax.dev/en/latest/_autosummary/jax.lax.gather.html
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend.core import JaxprEqn
from jax.lax import GatherScatterMode

from wormjax.structure._replay import Evaluate, Replay, Value
from wormjax.structure._trace import Axes, Propagate, Walk, shape_of
from wormjax.structure.rules import _listed, _passing

# for an axis of the result: the operand's axis, and the axis of the start indices, that it is
Origin = tuple[int | None, int | None]


def origins(eqn: JaxprEqn) -> list[Origin]:
    """Say where each axis of a gather's result comes from."""
    numbers = eqn.params["dimension_numbers"]
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    window = iter(k for k in range(len(shape_of(eqn.invars[0]))) if k not in gone)
    batch = iter(range(len(shape_of(eqn.invars[1])) - 1))
    paired = dict(
        zip(numbers.start_indices_batching_dims, numbers.operand_batching_dims, strict=True)
    )
    found: list[Origin] = []
    for axis in range(len(shape_of(eqn.outvars[0]))):
        if axis in numbers.offset_dims:
            found.append((next(window), None))
        else:
            k = next(batch)
            found.append((paired.get(k), k))
    return found


def propagate(walk: Walk, eqn: JaxprEqn, operand: Axes, start: Axes) -> Sequence[Axes]:
    """Pass what is taken whole; keep what is indexed."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    listed = _listed.propagate(walk, eqn, operand)
    if listed is not None:
        beside = [d for k, d in enumerate(operand) if k not in numbers.start_index_map]
        both, axes = (iter(listed), iter(beside)), range(len(shape_of(eqn.outvars[0])))
        return [tuple(next(both[axis in numbers.offset_dims]) for axis in axes)]
    clamped = eqn.params["mode"] == GatherScatterMode.CLIP
    indexed = [
        operand[k]
        for k in numbers.start_index_map
        if not (clamped and sizes[k] == operand[k].size and k not in numbers.collapsed_slice_dims)
    ]
    walk.fix(eqn, indexed, "it is looked up by index")
    walk.fix(eqn, start[-1:], "it lists the axes that are looked up by index")
    result = list(walk.fresh(shape_of(eqn.outvars[0])))
    for axis, (of_operand, of_start) in enumerate(origins(eqn)):
        if of_start is not None:
            result[axis] = start[of_start]
            if of_operand is not None:
                walk.unify(eqn, (start[of_start],), (operand[of_operand],))
        elif of_operand is not None and sizes[of_operand] == operand[of_operand].size:
            result[axis] = operand[of_operand]
        elif of_operand is not None:
            walk.fix(eqn, (operand[of_operand], result[axis]), "a part of it is looked up")
    return [tuple(result)]


def evaluate(run: Replay, eqn: JaxprEqn, operand: Value, start: Value) -> Sequence[Value]:
    """Look up what is kept."""
    if run.index in run.scope.lists:
        return _listed.evaluate(run, eqn, operand)
    where, numbers = origins(eqn), eqn.params["dimension_numbers"]
    whole = [
        size == full
        for size, full in zip(eqn.params["slice_sizes"], shape_of(eqn.invars[0]), strict=True)
    ]
    for k in (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims):
        whole[k] = False  # a window takes one entry of these, even where there is only one
    sizes = [
        kept if is_whole else size
        for size, is_whole, kept in zip(
            eqn.params["slice_sizes"], whole, operand.array.shape, strict=True
        )
    ]

    def narrow(_: int, axis: int) -> dict[str, Any]:
        of_operand, of_start = where[axis]
        alone = of_operand if of_start is None else None
        return {"slice_sizes": tuple(1 if k == alone else n for k, n in enumerate(sizes))}

    # beyond the bounds an entry may be a fill value instead; only a NaN there would spoil every result anyway
    fills = eqn.params["mode"] == GatherScatterMode.FILL_OR_DROP
    spoils = eqn.params["fill_value"] is None and jnp.issubdtype(operand.array.dtype, jnp.inexact)
    spoils |= (
        eqn.params["fill_value"] is not None
        and eqn.params["fill_value"] != eqn.params["fill_value"]
    )
    return _passing.evaluate(
        eqn,
        (operand, start),
        lambda _, axis: where[axis],
        constant=_passing.unchanged if not fills or spoils else None,
        narrow=narrow,
        slice_sizes=tuple(sizes),
    )


PROPAGATE: dict[str, Propagate] = {"gather": propagate}
EVALUATE: dict[str, Evaluate] = {"gather": evaluate}
