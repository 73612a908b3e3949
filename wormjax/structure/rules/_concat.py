"""Arrays joined end to end, or along a new axis.

    concatenate     out[i] = x[i] for i < n, else y[i - n]        the axis is n + m
    stack           out[0, i] = x[i], out[1, i] = y[i]            the axis has one entry for each operand

The joined axis is the concatenation of the operands' axes; their other axes are tied. A new axis of stacked operands
stays whole, for each entry of it is an array of the program and no slice of a parameter.

Example: in DenseNet, ``concatenate([x, f(x)], -1)`` with 4 and 2 channels feeds a kernel whose 6 rows are 4 + 2: the
channels of x and those of f(x) go independently.
Jaxpr: ``concatenate[dimension] x y ...``; ``stack[axis] x y ...``.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.concatenate.html
"""

from collections.abc import Sequence

from jax.extend.core import JaxprEqn

from wormjax.structure._dims import Dim
from wormjax.structure._replay import Evaluate, Ghost, Replay, Value
from wormjax.structure._trace import Axes, Propagate, Walk
from wormjax.structure.rules import _passing


def _tied(walk: Walk, eqn: JaxprEqn, operands: Sequence[Axes], joined: int | None) -> Axes:
    """Tie all axes of the operands but the joined one, and return the first operand's."""
    first, *others = ([d for k, d in enumerate(axes) if k != joined] for axes in operands)
    for other in others:
        walk.unify(eqn, tuple(first), tuple(other))
    return tuple(first)


def _set_of_arrays(walk: Walk, eqn: JaxprEqn, size: int) -> Dim:
    [dim] = walk.fresh([size])
    walk.fix(eqn, (dim,), "it joins separate arrays, one for each entry")
    return dim


def propagate_concatenate(walk: Walk, eqn: JaxprEqn, *operands: Axes) -> Sequence[Axes]:
    """Join the operands' axes and tie the others."""
    at = int(eqn.params["dimension"])  # `jnp.roll` counts by NumPy
    tied, pieces = _tied(walk, eqn, operands, at), [axes[at] for axes in operands]
    if all(piece.size <= 1 for piece in pieces):
        joined = _set_of_arrays(walk, eqn, sum(piece.size for piece in pieces))
    else:
        joined = walk.dims.concat(pieces)
    return [(*tied[:at], joined, *tied[at:])]


def evaluate_concatenate(run: Replay, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """Join what is kept of the operands."""
    at, (axes, _) = int(eqn.params["dimension"]), run.axes_of(eqn)
    same = _passing.unchanged
    [passed] = _passing.evaluate(eqn, operands, lambda _, k: [k] * len(operands), constant=same)

    def ghost(axis: int) -> Ghost:
        if axis != at:
            return passed.ghost(axis)
        known = [v.ghost(at) for v, a in zip(operands, axes, strict=True) if run.is_pruned(a[at])]
        return known[0] if len(known) == 1 else _passing.agreed(known)

    return [Value(passed.array, ghost)]


def propagate_stack(walk: Walk, eqn: JaxprEqn, *operands: Axes) -> Sequence[Axes]:
    """Tie the operands; the new axis stays whole."""
    at, tied = eqn.params["axis"], _tied(walk, eqn, operands, None)
    return [(*tied[:at], _set_of_arrays(walk, eqn, len(operands)), *tied[at:])]


def evaluate_stack(run: Replay, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """Stack what is kept."""
    at = eqn.params["axis"]

    def carried(_: int, axis: int) -> list[int | None]:
        return [None if axis == at else axis - (axis > at)] * len(operands)

    return _passing.evaluate(eqn, operands, carried, constant=_passing.unchanged)


PROPAGATE: dict[str, Propagate] = {"concatenate": propagate_concatenate, "stack": propagate_stack}
EVALUATE: dict[str, Evaluate] = {"concatenate": evaluate_concatenate, "stack": evaluate_stack}
