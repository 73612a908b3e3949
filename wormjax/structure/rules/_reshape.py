"""Axes merged and split.

    out[i m + j] = x[i, j]        j < m        the merged axis is the product (i, j)
    out[i, j] = x[i m + j]                     and the other way round

Old and new axes are paired in the smallest blocks of equal size, from the left; in each block the product of the old
axes is the product of the new ones. Where the factors' boundaries do not fit together, the block stays whole.

Example: (N, 2, 3, C) to (N, 6 C), a flattening before ``Dense``: the 6 C rows of its kernel are (2, 3, C), and a
channel owns six of them. (N, T, 8) to (N, T, 2, 4), two heads: the 8 are (2, 4), and a head or a position inside all
heads can go. (4, 6) to (8, 3) is (4, 2, 3) on both sides; (4, 6) to (3, 8) stays whole.
Jaxpr: ``reshape[new_sizes, dimensions] x``; dimensions, if given, is the order in which x's axes are read.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.reshape.html
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from wormjax.structure._dims import Dim
from wormjax.structure._replay import Evaluate, Ghost, Replay, Value, bind
from wormjax.structure._trace import Axes, Propagate, Walk, shape_of
from wormjax.structure.rules import _passing

WHY = "it is reshaped across the boundaries of its factors"


class Block(NamedTuple):
    """Old axes that become new axes.

    Attributes:
      old: axes of the operand, in the order in which they are read.
      new: axes of the result.
    """

    old: list[int]
    new: list[int]


def blocks(eqn: JaxprEqn) -> Iterator[Block]:
    """Pair the old axes with the new ones in the smallest runs of equal size; an empty array is one block."""
    old, new = shape_of(eqn.invars[0]), shape_of(eqn.outvars[0])
    order = list(eqn.params["dimensions"] or range(len(old)))
    if 0 in old:
        yield Block(order, list(range(len(new))))
        return
    i = j = 0
    while i < len(old) or j < len(new):
        first, start, left, right = i, j, 1, 1
        if i < len(old):
            left, i = old[order[i]], i + 1
        if j < len(new):
            right, j = new[j], j + 1
        while left != right:
            if left < right:
                left, i = left * old[order[i]], i + 1
            else:
                right, j = right * new[j], j + 1
        yield Block(order[first:i], list(range(start, j)))


def propagate(walk: Walk, eqn: JaxprEqn, operand: Axes) -> Sequence[Axes]:
    """Make the product of the old axes of each block the product of its new ones."""
    result = walk.fresh(shape_of(eqn.outvars[0]))
    for block in blocks(eqn):
        old, new = [operand[k] for k in block.old], [result[k] for k in block.new]
        if any(dim.size == 0 for dim in old):
            walk.fix(eqn, (*old, *new), "it is an axis of an empty array")
            continue
        walk.dims.unify(walk.dims.product(old), walk.dims.product(new), walk.reason(eqn, WHY))
    return [result]


def evaluate(run: Replay, eqn: JaxprEqn, operand: Value) -> Sequence[Value]:
    """Reshape to the sizes that are kept."""
    [[axes], [result]] = run.axes_of(eqn)
    shape = run.shape(result)
    block_of = {axis: block for block in blocks(eqn) for axis in block.new}

    def ghost(axis: int) -> Ghost:
        block = block_of[axis]
        gone = [k for k in block.old if _share(run, axes[k], result[axis])]
        known = [operand.ghost(k) for k in gone]
        uniform = _passing.agreed(known)
        if uniform is not None:
            return uniform
        if (
            len(known) != 1
            or known[0] is None
            or any(axes[k].size > 1 for k in block.old if k not in gone)
        ):
            return None
        # an axis that was split: what stands for its removed entries does so beside every other factor
        inside = [1 if k in block.new else n for k, n in enumerate(shape)]
        narrow = bind(eqn, known, new_sizes=tuple(inside))[0]
        return jnp.broadcast_to(narrow, [1 if k == axis else n for k, n in enumerate(shape)])

    return [Value(bind(eqn, [operand.array], new_sizes=shape)[0], ghost)]


def _share(run: Replay, old: Dim, new: Dim) -> bool:
    """Whether entries of a new axis are removed because entries of an old one are."""
    pruned = {atom for atom in run.dims.atoms(old) if run.is_pruned(atom)}
    return not pruned.isdisjoint(run.dims.atoms(new))


PROPAGATE: dict[str, Propagate] = {"reshape": propagate}
EVALUATE: dict[str, Evaluate] = {"reshape": evaluate}
