"""Reading an axis at a list of positions that the program's text tells.

    out[..., j, ...] = x[..., list[j], ...]

Entry j of the result is entry list[j] of the operand, so the result's axis is the operand's, indexed: a permutation
passes it, a selection splits it into what is selected and what is not, and of units that are repeated all copies go
together. At kept sizes the list counts kept entries; where it then reads all of them in order, nothing is left to do.

Example: with h of 4 channels ``h[:, [2, 0]]`` has those two as its channels, and h is them and two others. When channel
0 goes, what was ``h[:, [2, 0]]`` is ``h[:, [1]]`` of the kept 1, 2 and 3.
Jaxpr: ``gather[dimension_numbers=GatherDimensionNumbers(offset_dims=(0,), collapsed_slice_dims=(1,),
start_index_map=(1,), ...) slice_sizes=(5, 1) ...] h starts`` where starts:i32[2,1] is a captured array, or computed
from captured arrays, literals and ``iota``.
https://docs.jax.dev/en/latest/_autosummary/jax.numpy.take.html
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from wormjax.structure._constants import constant
from wormjax.structure._dims import Dim
from wormjax.structure._replay import Ghost, Replay, Uniform, Value, bind
from wormjax.structure._trace import Axes, Walk, shape_of


def propagate(walk: Walk, eqn: JaxprEqn, operand: Axes) -> list[Dim] | None:
    """Return the axes of a gather's result that its list gives; None where it is no such gather, or no dim says it."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    [*shape, depth] = shape_of(eqn.invars[1])
    indexed = tuple(numbers.start_index_map)
    others_whole = all(
        n == d.size for k, (n, d) in enumerate(zip(sizes, operand, strict=True)) if k not in indexed
    )
    if (
        depth != 1
        or not shape
        or indexed != tuple(numbers.collapsed_slice_dims)
        or not others_whole
    ):
        return None
    dim = operand[indexed[0]]
    repeats = (
        len(shape) > 1 and np.prod(shape) > dim.size
    )  # a table of positions in several axes has no one dim
    if dim.size < 2 or repeats or walk.dims.reasons(dim):
        return None
    found = constant(walk.scope, eqn.invars[1])
    if found is None or not found.size or found.min() < 0 or found.max() >= dim.size:
        return None
    if len(shape) > 1 and len(np.unique(found)) < found.size:
        return None
    axis = walk.dims.take(dim, found.ravel())
    if axis is None:
        return None
    walk.scope.lists[walk.index] = found[..., 0].astype(int)
    why = walk.reason(eqn, "its list of positions does not fit the structure of its axes")
    return [axis] if len(shape) == 1 else walk.dims.factor(axis, shape, why)


def evaluate(run: Replay, eqn: JaxprEqn, operand: Value) -> Sequence[Value]:
    """Read the kept entries."""
    numbers = eqn.params["dimension_numbers"]
    [source] = numbers.start_index_map
    (axes, _), [result] = run.axes_of(eqn)
    window = [axis for axis in range(len(result)) if axis in numbers.offset_dims]
    listed = [axis for axis in range(len(result)) if axis not in window]
    rest = [axis for axis in range(len(axes)) if axis != source]
    kept = np.ix_(*(run.kept(result[axis]) for axis in listed))
    position = np.cumsum(run.kept(axes[source])) - 1  # of each kept entry among them
    few = position[run.scope.lists[run.index][kept]]

    def read(array: Any) -> Any:
        if listed == [source] and len(few) and (np.diff(few) == 1).all():
            return lax.slice_in_dim(array, int(few[0]), int(few[-1]) + 1, axis=source)
        sizes = tuple(1 if axis == source else n for axis, n in enumerate(jnp.shape(array)))
        starts = few[..., None].astype(eqn.invars[1].aval.dtype)  # type: ignore[attr-defined]
        return bind(eqn, [array, starts], slice_sizes=sizes)[0]

    def ghost(axis: int) -> Ghost:
        found = operand.ghost(source if axis in listed else rest[window.index(axis)])
        if found is None or isinstance(found, Uniform):
            return found
        if axis in window:
            return read(found)
        return jnp.moveaxis(found, source, axis) if len(listed) == 1 else None

    return [Value(read(operand.array), ghost)]
