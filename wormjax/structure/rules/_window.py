"""Sliding windows: pooling and its derivatives.

    out[n, p, c] = f_q x[n, s p + d q, c]        f: sum, max, min, or a function; q over a window

An axis with a window of 1, stride 1 and no padding is looked at one entry at a time and passes; the others stay whole.

Example: max pooling of (N, H, W, C) by 2 x 2 keeps H and W and passes N and C.
Jaxpr: ``reduce_window_max[window_dimensions=(1, 2, 2, 1) window_strides=... padding=... base_dilation=...
window_dilation=...] a``; ``reduce_window`` has its initial values after the operands; ``select_and_scatter_add``
(cotangents, operand) and ``select_and_gather_add`` (tangents, operand) are the derivatives of a pooling by max.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.reduce_window.html
"""

from collections.abc import Sequence

from jax.extend.core import JaxprEqn

from wormjax.structure._replay import Evaluate, Replay, Value
from wormjax.structure._trace import Axes, Propagate, Walk, shape_of
from wormjax.structure.rules import _passing

NAMES = (
    "reduce_window",
    "reduce_window_max",
    "reduce_window_min",
    "reduce_window_sum",
    "select_and_gather_add",
    "select_and_scatter_add",
)


def _passes(eqn: JaxprEqn, axis: int) -> bool:
    window, params = eqn.params["window_dimensions"], eqn.params
    return (
        window[axis] == 1
        and params["window_strides"][axis] == 1
        and tuple(params["padding"][axis]) == (0, 0)
        and params.get("base_dilation", [1] * len(window))[axis] == 1
    )


def propagate(walk: Walk, eqn: JaxprEqn, *operands: Axes) -> Sequence[Axes]:
    """Tie the operands along axes that pass; keep the others whole."""
    first, *others = (axes for axes in operands if axes)  # initial values are scalars
    results = [list(walk.fresh(shape_of(v))) for v in eqn.outvars]
    for axis, dim in enumerate(first):
        beside = [axes[axis] for axes in others]
        if _passes(eqn, axis):
            for other in beside:
                walk.unify(eqn, (dim,), (other,))
            for result in results:
                result[axis] = dim
        else:
            touched = [dim, *beside, *(result[axis] for result in results)]
            walk.fix(eqn, touched, "a window slides along this axis")
    return [tuple(result) for result in results]


def evaluate(run: Replay, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """Slide over what is kept."""
    ranks = [len(shape_of(v)) for v in eqn.invars]
    return _passing.evaluate(
        eqn, operands, lambda _, axis: [axis if rank else None for rank in ranks]
    )


PROPAGATE: dict[str, Propagate] = dict.fromkeys(NAMES, propagate)
EVALUATE: dict[str, Evaluate] = dict.fromkeys(NAMES, evaluate)
