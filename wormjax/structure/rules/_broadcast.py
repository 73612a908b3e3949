"""Repetition along new axes, and axes of size 1 dropped.

    broadcast_in_dim     out[i, j] = x[j]        any i: every entry of a new axis is the operand itself
    squeeze              out[i] = x[i, 0]

An axis that the operand has passes. An axis that only the result has is free: nothing of the parameters lies on it, so
it becomes the axis of whatever it meets and shrinks with it; its removed entries are what its kept ones are.

Example: ``jnp.zeros(6) + b`` makes the six zeros the channels of the bias ``b``.
Jaxpr: ``broadcast_in_dim[shape, broadcast_dimensions] x``, where operand axis k is result axis broadcast_dimensions[k];
``squeeze[dimensions] x``. ``expand_dims`` is a broadcast.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.broadcast_in_dim.html
"""

from collections.abc import Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from wormjax.structure._replay import Evaluate, Ghost, Replay, Uniform, Value, bind
from wormjax.structure._trace import Axes, Propagate, Walk, shape_of
from wormjax.structure.rules import _passing


def _source(eqn: JaxprEqn, axis: int) -> int | None:
    """The operand's axis that is an axis of the result; None where the result repeats the operand."""
    places = eqn.params["broadcast_dimensions"]
    if axis not in places:
        return None
    source = places.index(axis)
    same = shape_of(eqn.invars[0])[source] == shape_of(eqn.outvars[0])[axis]
    return source if same else None


def propagate(walk: Walk, eqn: JaxprEqn, operand: Axes) -> Sequence[Axes]:
    """Pass the operand's axes; those along which it is repeated are new."""
    result = list(walk.fresh(shape_of(eqn.outvars[0])))
    for axis in range(len(result)):
        source = _source(eqn, axis)
        if source is not None:
            result[axis] = operand[source]
    return [tuple(result)]


def evaluate(run: Replay, eqn: JaxprEqn, operand: Value) -> Sequence[Value]:
    """Repeat as often as is kept."""
    shape = run.shape(run.axes_of(eqn)[1][0])

    def ghost(axis: int) -> Ghost:
        source = _source(eqn, axis)
        known = _passing.number_of(operand) if source is None else operand.ghost(source)
        if isinstance(known, Uniform):
            return known
        narrow = operand.array if source is None else known
        if narrow is None:
            return None
        return bind(eqn, [narrow], shape=(*shape[:axis], 1, *shape[axis + 1 :]))[0]

    def each(axis: int) -> Any:
        source = _source(eqn, axis)
        known = None if source is None else operand.each(source)
        if source is None or known is None:
            return None
        return bind(eqn, [known], shape=(*shape[:axis], known.shape[source], *shape[axis + 1 :]))[0]

    return [Value(bind(eqn, [operand.array], shape=shape)[0], ghost, each)]


def _remaining(eqn: JaxprEqn) -> list[int]:
    rank = len(shape_of(eqn.invars[0]))
    return [k for k in range(rank) if k not in eqn.params["dimensions"]]


def propagate_squeeze(walk: Walk, eqn: JaxprEqn, operand: Axes) -> Sequence[Axes]:
    """Drop the axes of size 1."""
    return [tuple(operand[k] for k in _remaining(eqn))]


def evaluate_squeeze(run: Replay, eqn: JaxprEqn, operand: Value) -> Sequence[Value]:
    """Drop the axes of size 1."""
    remaining = _remaining(eqn)
    return _passing.evaluate(
        eqn, [operand], lambda _, axis: [remaining[axis]], constant=_passing.unchanged
    )


PROPAGATE: dict[str, Propagate] = {"broadcast_in_dim": propagate, "squeeze": propagate_squeeze}
EVALUATE: dict[str, Evaluate] = {"broadcast_in_dim": evaluate, "squeeze": evaluate_squeeze}
