"""Which entries of which parameters belong to a unit, each counted once.

An index of an axis lies on one unit of a group, on several where the axis is a product of the group with itself, or on
none. An entry of a parameter belongs to the units of all its indices; where both axes of a square kernel carry a group,
as in a residual stream, the entry (c, c) belongs to unit c once.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
import optax
from jaxtyping import Int, PyTree

from wormjax._paths import leaf_names
from wormjax.structure._dims import Dim, Dims
from wormjax.structure._trace import Traced


@runtime_checkable
class OnParameters(Protocol):
    """A group: its atom, how many units it has, and the (leaf, path, axis) on which it lies."""

    @property
    def atom(self) -> Dim: ...
    @property
    def size(self) -> int: ...
    @property
    def slices(self) -> Sequence[tuple[int, str, int]]: ...


@runtime_checkable
class Grouped(Protocol):
    """What these functions use of `Groups`."""

    @property
    def traced(self) -> Traced: ...
    @property
    def shapes(self) -> PyTree: ...
    @property
    def groups(self) -> Sequence[OnParameters]: ...


class Line(NamedTuple):
    """Units along an axis of a parameter.

    Attributes:
      axis: the axis.
      units: for each index the unit that it lies on; the group's size for none.
    """

    axis: int
    units: Int[np.ndarray, " entries"]

    def beside(self, rank: int) -> tuple[int, ...]:
        """Return the shape in which numbers along the axis broadcast against the parameter."""
        return (1,) * self.axis + (-1,) + (1,) * (rank - self.axis - 1)


def lines(groups: Grouped, group: OnParameters) -> dict[int, list[Line]]:
    """Return how a group lies on each parameter, by its index in flatten order."""
    found: dict[int, list[Line]] = {}
    for leaf, _, axis in group.slices:
        dim = groups.traced.params[leaf][axis]
        table = units_along(groups.traced.dims, dim, group.atom)
        found.setdefault(leaf, []).extend(Line(axis, column) for column in table.T)
    return found


def units_along(dims: Dims, dim: Dim, atom: Dim) -> np.ndarray:
    """Return the unit of each index of an axis, a column for each time that the atom occurs; its size for none."""
    root, target = dims.find(dim), dims.find(atom)
    if root is target:
        return np.arange(target.size)[:, None]
    inner = [units_along(dims, part, target) for part in root.parts]
    width = max((table.shape[1] for table in inner), default=0)
    if root.kind in ("concat", "indexed"):
        short = [
            np.pad(t, ((0, 0), (0, width - t.shape[1])), constant_values=target.size) for t in inner
        ]
        joined = np.concatenate(short)
        return joined if root.index is None else joined[root.index]
    columns: list[np.ndarray] = []
    sizes = [part.size for part in root.parts]
    for k, table in enumerate(inner):
        for column in table.T:
            shape = [-1 if j == k else 1 for j in range(len(sizes))]
            fresh = np.broadcast_to(column.reshape(shape), sizes).ravel()
            for before in columns:  # an index (c, c) of a product of the group with itself
                fresh[fresh == before] = target.size
            columns.append(fresh)
    return np.stack(columns, axis=1) if columns else np.zeros((root.size, 0), int)


def first_count(along: Sequence[Line], k: int, rank: int, xp: Any) -> Any:
    """Return where an entry belongs to its unit by line ``k`` and by no line before it; None for everywhere.

    Args:
      along: the lines of a group on one parameter.
      k: which of them.
      rank: the parameter's.
      xp: `numpy` or `jax.numpy`.
    """
    mine = xp.asarray(along[k].units).reshape(along[k].beside(rank))
    first = None
    for before in along[:k]:
        if before.axis != along[k].axis:
            other = mine != xp.asarray(before.units).reshape(before.beside(rank))
            first = other if first is None else first & other
    return first


def others(axis: int, rank: int) -> tuple[int, ...]:
    """Return all axes but one."""
    return tuple(a for a in range(rank) if a != axis)


def unit_entries(shapes: Sequence[tuple[int, ...]], on: Mapping[int, Sequence[Line]]) -> int:
    """Return how many entries of the parameters belong to a unit; all units of a group have as many."""
    count = 0
    for leaf, along in on.items():
        outside = list(shapes[leaf])
        for axis in {line.axis for line in along}:
            first = [line.units == 0 for line in along if line.axis == axis]
            outside[axis] -= int(np.any(first, axis=0).sum())
        count += math.prod(shapes[leaf]) - math.prod(outside)
    return count


def by_leaf(groups: Grouped, tree: PyTree, what: str) -> dict[int, Any]:
    """Return the leaves of a tree by the index of the parameter that they belong to.

    Args:
      groups: the groups.
      tree: of the structure of the parameters, or a part of it with `optax.MaskedNode` for the rest.
      what: what the tree is, for the message.

    Raises:
      ValueError: the tree has a leaf that the parameters do not have, or lacks one.
    """
    places = {name: index for index, name in enumerate(groups.traced.names)}
    filled = jax.tree.map(lambda x: _HOLE if _is_hole(x) else x, tree, is_leaf=_is_hole)
    named = dict(zip(leaf_names(filled), jax.tree.leaves(filled), strict=True))
    seen = {name: leaf for name, leaf in named.items() if leaf is not _HOLE}
    missing = [] if len(seen) < len(named) else [n for n in places if n not in seen]
    for name in [*(n for n in seen if n not in places), *missing]:
        raise ValueError(
            f"{name!r} is a leaf of only one of the {what} and the parameters that the groups were found on. Find "
            "the groups on these parameters."
        )
    return {places[name]: leaf for name, leaf in seen.items()}


_HOLE = object()


def _is_hole(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)
