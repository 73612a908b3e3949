"""A range of an axis at a position that is computed.

    dynamic_slice            out[i] = x[start + i]
    dynamic_update_slice     out[i] = update[i - start] inside the range, else x[i]

An axis that is taken as a whole passes: there the position can only be 0. Where a position is written in the program,
a slice cuts the axis as `slice` does. Any other axis stays whole, for nobody knows which entries are meant.

Example: reading position t of a (T, C) cache keeps T whole and passes C.
Jaxpr: ``dynamic_slice[slice_sizes] x start ...``, ``dynamic_update_slice x update start ...``, one scalar an axis.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.dynamic_slice.html
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn, Literal

from wormjax.structure._dims import Dim
from wormjax.structure._replay import Evaluate, Replay, Value
from wormjax.structure._trace import Axes, Propagate, Walk, shape_of
from wormjax.structure.rules import _passing
from wormjax.structure.rules._slice import taken

WHY = "an entry is looked up at a position that is computed"


def _written(eqn: JaxprEqn, axis: int) -> int | None:
    """Where a slice begins along an axis, if the program's text says it; moved inside as the primitive does."""
    start, size = eqn.invars[1 + axis], eqn.params["slice_sizes"][axis]
    if not isinstance(start, Literal):
        return None
    return int(np.clip(int(start.val), 0, shape_of(eqn.invars[0])[axis] - size))


def propagate_slice(walk: Walk, eqn: JaxprEqn, operand: Axes, *starts: Axes) -> Sequence[Axes]:
    """Pass whole axes, cut those at written positions, keep the others whole."""

    def along(axis: int, dim: Dim, size: int) -> Dim:
        start = 0 if size == dim.size else _written(eqn, axis)
        if start is not None:
            return taken(walk, eqn, dim, start, size)
        [result] = walk.fresh([size])
        walk.fix(eqn, (dim, result), WHY)
        return result

    sizes = eqn.params["slice_sizes"]
    return [tuple(along(k, d, n) for k, (d, n) in enumerate(zip(operand, sizes, strict=True)))]


def evaluate_slice(run: Replay, eqn: JaxprEqn, operand: Value, *starts: Value) -> Sequence[Value]:
    """Take as much as is kept, from where it begins among what is kept."""
    (axes, *_), [result] = run.axes_of(eqn)
    sizes = run.shape(result)

    def moved(axis: int, start: Value) -> Value:
        written = _written(eqn, axis)
        if written is None or not run.is_pruned(axes[axis]):
            return start
        dtype = eqn.invars[1 + axis].aval.dtype  # type: ignore[attr-defined]
        return Value(np.asarray(run.kept(axes[axis])[:written].sum(), dtype))

    def narrow(_: int, axis: int) -> dict[str, Any]:
        return {"slice_sizes": (*sizes[:axis], 1, *sizes[axis + 1 :])}

    return _passing.evaluate(
        eqn,
        [operand, *(moved(k, start) for k, start in enumerate(starts))],
        lambda _, axis: [axis, *[None] * len(starts)],
        constant=_passing.unchanged,
        narrow=narrow,
        slice_sizes=sizes,
    )


def propagate_update(
    walk: Walk, eqn: JaxprEqn, operand: Axes, update: Axes, *starts: Axes
) -> Sequence[Axes]:
    """Tie the axes that are written as a whole; keep the others whole."""
    for old, new in zip(operand, update, strict=True):
        if old.size == new.size:
            walk.unify(eqn, (old,), (new,))
        else:
            walk.fix(eqn, (old, new), "a part of it is overwritten")
    return [operand]


def evaluate_update(
    run: Replay, eqn: JaxprEqn, operand: Value, update: Value, *starts: Value
) -> Sequence[Value]:
    """Write what is kept of the update into what is kept of the operand."""
    return _passing.evaluate(
        eqn,
        [operand, update, *starts],
        lambda _, axis: [axis, axis, *[None] * len(starts)],
        constant=_passing.unchanged,
    )


PROPAGATE: dict[str, Propagate] = {
    "dynamic_slice": propagate_slice,
    "dynamic_update_slice": propagate_update,
}
EVALUATE: dict[str, Evaluate] = {
    "dynamic_slice": evaluate_slice,
    "dynamic_update_slice": evaluate_update,
}
