"""Sorting and selecting the largest.

    out[..., n] = x[..., permutation(n)]

The sorted axis stays whole: which entries come first depends on all of them. The other axes pass. Operands that are
permuted together (keys and values, or positions) have the same axes.

Example: ``top_k`` over the experts of a (N, E) router keeps E and passes N.
Jaxpr: ``sort[dimension=1 is_stable=True num_keys=1] a b``; ``top_k[axis=1 k=2] a`` -> values, positions;
``approx_top_k[reduction_dimension=1 ...] a``, likewise.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.sort.html
"""

from collections.abc import Sequence

from jax.extend.core import JaxprEqn

from wormjax.structure._replay import Evaluate, Replay, Value
from wormjax.structure._trace import Axes, Propagate, Walk, shape_of
from wormjax.structure.rules import _passing

_AXIS = {"sort": "dimension", "top_k": "axis", "approx_top_k": "reduction_dimension"}


def propagate(walk: Walk, eqn: JaxprEqn, first: Axes, *others: Axes) -> Sequence[Axes]:
    """Tie the operands; the sorted axis stays whole and is another one where only a part is returned."""
    for other in others:
        walk.unify(eqn, first, other)
    axis = eqn.params[_AXIS[eqn.primitive.name]] % len(first)
    [dim] = walk.fresh([shape_of(eqn.outvars[0])[axis]])
    walk.fix(eqn, (first[axis], dim), "entries are sorted along this axis")
    return [(*first[:axis], dim, *first[axis + 1 :]) for _ in eqn.outvars]


def evaluate(run: Replay, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """Sort what is kept."""
    return _passing.evaluate(eqn, operands, lambda _, axis: [axis] * len(operands))


PROPAGATE: dict[str, Propagate] = dict.fromkeys(_AXIS, propagate)
EVALUATE: dict[str, Evaluate] = dict.fromkeys(_AXIS, evaluate)
