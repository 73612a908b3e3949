"""Arrays taken apart.

    split       out_0[i] = x[i], out_1[i] = x[n + i]        for sizes (n, m): the axis is n + m
    unstack     out_k[i] = x[k, i]

The axis that is split is the concatenation of the results' axes. An axis whose entries become arrays stays whole.

Example: ``a, b = jnp.split(h, 2, axis=-1)`` and ``a * b`` in a gated unit with 8 channels: the 8 are 4 + 4, and the
product makes the two 4 the same.
Jaxpr: ``split[sizes, axis] x``; ``unstack[axis] x``; one result for each piece.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.split.html
"""

from collections.abc import Sequence
from itertools import accumulate

from jax.extend.core import JaxprEqn

from wormjax.structure._dims import Dim
from wormjax.structure._replay import Evaluate, Ghost, Replay, Value
from wormjax.structure._trace import Axes, Propagate, Walk
from wormjax.structure.rules import _passing


def pieces_of(walk: Walk, eqn: JaxprEqn, dim: Dim, sizes: Sequence[int]) -> Sequence[Dim]:
    """Cut an axis into pieces of these sizes; where its structure forbids it, it stays whole and so do they."""
    if not walk.dims.reasons(dim):  # what is whole anyway needs no structure
        pieces = walk.dims.cut(dim, list(accumulate(sizes))[:-1])
        if pieces is not None:
            return pieces
    apart = walk.fresh(sizes)
    walk.fix(eqn, (dim, *apart), "it is cut across the boundaries of its factors")
    return apart


def propagate_split(walk: Walk, eqn: JaxprEqn, operand: Axes) -> Sequence[Axes]:
    """Cut the axis."""
    at, sizes = eqn.params["axis"], [int(n) for n in eqn.params["sizes"]]
    pieces = pieces_of(walk, eqn, operand[at], sizes)
    return [(*operand[:at], piece, *operand[at + 1 :]) for piece in pieces]


def evaluate_split(run: Replay, eqn: JaxprEqn, operand: Value) -> Sequence[Value]:
    """Cut where the kept pieces end."""
    at = eqn.params["axis"]
    sizes = tuple(run.size(axes[at]) for axes in run.axes_of(eqn)[1])
    same = _passing.unchanged
    passed = _passing.evaluate(eqn, [operand], lambda _, k: [k], constant=same, sizes=sizes)

    def of_piece(piece: Value) -> Value:
        def ghost(axis: int) -> Ghost:
            return operand.ghost(at) if axis == at else piece.ghost(axis)

        return Value(piece.array, ghost)

    return [of_piece(piece) for piece in passed]


def propagate_unstack(walk: Walk, eqn: JaxprEqn, operand: Axes) -> Sequence[Axes]:
    """Keep the axis whole; pass the others."""
    at = eqn.params["axis"]
    walk.fix(eqn, (operand[at],), "each of its entries becomes an array of its own")
    return [(*operand[:at], *operand[at + 1 :])] * len(eqn.outvars)


def evaluate_unstack(run: Replay, eqn: JaxprEqn, operand: Value) -> Sequence[Value]:
    """Take a whole axis apart."""
    at = eqn.params["axis"]
    return _passing.evaluate(
        eqn, [operand], lambda _, axis: [axis + (axis >= at)], constant=_passing.unchanged
    )


PROPAGATE: dict[str, Propagate] = {"split": propagate_split, "unstack": propagate_unstack}
EVALUATE: dict[str, Evaluate] = {"split": evaluate_split, "unstack": evaluate_unstack}
