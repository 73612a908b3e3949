"""Copies of an array laid end to end.

    out[r n + i] = x[i]        r < reps, i < n

The result's axis is the product (reps, n). The factor ``reps`` is free, as the axis of a broadcast is.

Example: tiling an axis of 6 twice gives (2, 6): whoever removes its entry 1 removes entry 7 and ``x[1]``.
Jaxpr: ``tile[reps] x``, one number for each axis.
https://docs.jax.dev/en/latest/_autosummary/jax.numpy.tile.html
"""

from collections.abc import Sequence

from jax.extend.core import JaxprEqn

from wormjax.structure._replay import Evaluate, Replay, Value
from wormjax.structure._trace import Axes, Propagate, Walk
from wormjax.structure.rules import _passing


def propagate(walk: Walk, eqn: JaxprEqn, operand: Axes) -> Sequence[Axes]:
    """Put a new slowest factor on every axis that is repeated."""
    return [
        tuple(
            walk.dims.product([walk.dims.new(reps), dim]) if reps != 1 else dim
            for reps, dim in zip(eqn.params["reps"], operand, strict=True)
        )
    ]


def evaluate(run: Replay, eqn: JaxprEqn, operand: Value) -> Sequence[Value]:
    """Copy what is kept as often as is kept."""
    [[axes], [result]] = run.axes_of(eqn)
    reps = tuple(run.size(y) // run.size(x) for x, y in zip(axes, result, strict=True))

    def along(_: int, axis: int) -> list[int | None]:
        # where copies are missing, the removed entries are the kept ones, and differ
        return [axis if reps[axis] == eqn.params["reps"][axis] else None]

    def narrow(_: int, axis: int) -> dict[str, tuple[int, ...]]:
        return {"reps": (*reps[:axis], 1, *reps[axis + 1 :])}

    return _passing.evaluate(
        eqn, [operand], along, constant=_passing.unchanged, narrow=narrow, reps=reps
    )


PROPAGATE: dict[str, Propagate] = {"tile": propagate}
EVALUATE: dict[str, Evaluate] = {"tile": evaluate}
