"""A range of an axis.

    out[i] = x[start + stride i]        start + stride i < limit

With stride 1 the axis is the concatenation of what lies before the range, the range, and what lies behind. With a
stride that divides the axis, from a start below it, the axis is the product (n / stride, stride), and the result
has its slower factor; the faster one stays whole. Other strides keep the axis whole.

Example: ``h[:, :4] * h[:, 4:]`` ties the halves of h, as a split does; ``h[:, ::2] * h[:, 1::2]``, as in interleaved
rotary embeddings, ties each even channel with the odd one behind it.
Jaxpr: ``slice[start_indices, limit_indices, strides] x``; strides may be None.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.slice.html
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jax.extend.core import JaxprEqn

from wormjax.structure._dims import Dim
from wormjax.structure._replay import Evaluate, Replay, Value
from wormjax.structure._trace import Axes, Propagate, Walk, shape_of
from wormjax.structure.rules import _passing
from wormjax.structure.rules._split import pieces_of


class Range(NamedTuple):
    """What is taken of one axis."""

    start: int
    limit: int
    stride: int = 1


def _ranges(eqn: JaxprEqn) -> list[Range]:
    starts, limits = eqn.params["start_indices"], eqn.params["limit_indices"]
    strides = eqn.params["strides"] or (1,) * len(starts)
    return [Range(*map(int, r)) for r in zip(starts, limits, strides, strict=True)]


def taken(walk: Walk, eqn: JaxprEqn, dim: Dim, start: int, size: int) -> Dim:
    """Return the piece of an axis that begins at ``start``; the axis itself where it is all of it."""
    if size == dim.size:
        return dim
    return pieces_of(walk, eqn, dim, [start, size, dim.size - start - size])[1]


def _every(walk: Walk, eqn: JaxprEqn, dim: Dim, span: Range, size: int) -> Dim:
    """The axis of every stride-th entry."""
    if span.start < span.stride and size * span.stride == dim.size:
        why = walk.reason(eqn, "its stride crosses the boundaries of its factors")
        slow, fast = walk.dims.factor(dim, [size, span.stride], why)
        walk.fix(eqn, (fast,), "a strided slice takes one entry of each run")
        return slow
    [result] = walk.fresh([size])
    walk.fix(eqn, (dim, result), "its stride does not divide the axis")
    return result


def propagate(walk: Walk, eqn: JaxprEqn, operand: Axes) -> Sequence[Axes]:
    """Cut ranges out of the axes, or factor them by their strides."""
    return [
        tuple(
            taken(walk, eqn, dim, span.start, size)
            if span.stride == 1
            else _every(walk, eqn, dim, span, size)
            for dim, span, size in zip(operand, _ranges(eqn), shape_of(eqn.outvars[0]), strict=True)
        )
    ]


def evaluate(run: Replay, eqn: JaxprEqn, operand: Value) -> Sequence[Value]:
    """Take the ranges in which the kept entries lie."""
    [[axes], [result]] = run.axes_of(eqn)
    kept = [
        _kept(run, dim, piece, span)
        for dim, piece, span in zip(axes, result, _ranges(eqn), strict=True)
    ]

    def narrow(_: int, axis: int) -> dict[str, Any]:
        return _params([Range(0, 1) if k == axis else span for k, span in enumerate(kept)])

    return _passing.evaluate(
        eqn,
        [operand],
        lambda _, axis: [axis],
        constant=_passing.unchanged,
        narrow=narrow,
        **_params(kept),
    )


def _kept(run: Replay, dim: Dim, piece: Dim, span: Range) -> Range:
    """A range among the kept entries."""
    if not run.is_pruned(dim):
        return span
    size = run.size(piece)
    if span.stride == 1:
        start = int(run.kept(dim)[: span.start].sum())
        return Range(start, start + size)
    return Range(span.start, span.start + (size - 1) * span.stride + 1, span.stride)


def _params(spans: Sequence[Range]) -> dict[str, Any]:
    starts, limits, strides = zip(*spans, strict=True)
    plain = all(stride == 1 for stride in strides)
    return {
        "start_indices": starts,
        "limit_indices": limits,
        "strides": None if plain else strides,
    }


PROPAGATE: dict[str, Propagate] = {"slice": propagate}
EVALUATE: dict[str, Evaluate] = {"slice": evaluate}
