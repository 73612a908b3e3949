"""Cutting trees of arrays to what is kept."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from wormjax._paths import leaf_names
from wormjax.structure._dims import Dim
from wormjax.structure._trace import Axes, Traced


@dataclasses.dataclass(frozen=True, eq=False)
class Cut:
    """How one parameter is cut.

    Attributes:
      name: its path.
      shape: its full shape.
      kept: the kept indices along each axis that loses something.
      padding: along each axis that is padded, which of the small array's entries hold zeros; bool.
    """

    name: str
    shape: tuple[int, ...]
    # JAX writes whole trees into errors that are caught here, and long arrays take long to write
    kept: Mapping[int, np.ndarray] = dataclasses.field(repr=False)
    padding: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def small(self) -> tuple[int, ...]:
        """The shape that is left."""
        return tuple(len(self.kept.get(axis, range(n))) for axis, n in enumerate(self.shape))

    def ends(self, shape: tuple[int, ...]) -> bool:
        """Whether a shape ends in the parameter's; rank 0 does."""
        return not shape or shape[max(len(shape) - len(self.shape), 0) :] == self.shape

    def trailing(self, array: Any) -> Any:
        """Cut an array whose last axes are the parameter's; axes in front of them, or rank 0, stay."""
        front = jnp.ndim(array) - len(self.shape)
        return self._cut(array, front, range(len(self.shape)) if front >= 0 else ())

    def broadcast(self, array: Any) -> Any:
        """Cut an array whose last axes broadcast against the parameter: one of size 1 has nothing to lose."""
        front = jnp.ndim(array) - len(self.shape)
        told = [
            a for a, n in enumerate(self.shape) if front >= 0 and jnp.shape(array)[front + a] == n
        ]
        return self._cut(array, front, told)

    def _cut(self, array: Any, front: int, along: Sequence[int]) -> Any:
        kept, padding = (
            {front + axis: found for axis, found in by_axis.items() if axis in along}
            for by_axis in (self.kept, self.padding)
        )
        return cut(array, kept, padding)


def kept_by_axis(
    traced: Traced, axes: Axes, masks: Mapping[Dim, np.ndarray]
) -> dict[int, np.ndarray]:
    """Return the kept indices along each axis that loses something."""
    kept = {a: traced.dims.kept(dim, masks) for a, dim in enumerate(axes)}
    return {a: np.flatnonzero(mask) for a, mask in kept.items() if not mask.all()}


def cut(
    array: Any, kept: Mapping[int, np.ndarray], padding: Mapping[int, np.ndarray] | None = None
) -> Any:
    """Return the kept entries of an array, where it was, with zeros for those that are padding."""
    if _is_on_one_device(array) and (kept or padding):
        # by NumPy: the device would compile a program for every shape, which takes longer than the copy
        small: Any = _cut(np.asarray(array), kept, padding or {}, np)
        return jax.device_put(small, array.sharding) if array.committed else jnp.asarray(small)
    return _cut(array, kept, padding or {}, jnp)


def _cut(
    array: Any, kept: Mapping[int, np.ndarray], padding: Mapping[int, np.ndarray], xp: Any
) -> Any:
    for axis, indices in kept.items():
        array = xp.take(array, indices, axis=axis)
    for axis, blank in padding.items():
        beside = blank.reshape([-1 if k == axis else 1 for k in range(array.ndim)])
        array = xp.where(beside, xp.zeros((), array.dtype), array)
    return array


def _is_on_one_device(array: Any) -> bool:
    if not isinstance(array, jax.Array) or isinstance(array, jax.core.Tracer):
        return False
    return len(array.devices()) == 1 and not jnp.issubdtype(array.dtype, jax.dtypes.extended)


def cuts_of(
    full: PyTree,
    axes: Sequence[Axes],
    traced: Traced,
    masks: Mapping[Dim, np.ndarray],
    live: Mapping[Dim, np.ndarray] | None = None,
) -> PyTree[Cut]:
    """Return a tree of the structure of ``full`` that says how each of its leaves is cut.

    Args:
      full: the tree.
      axes: the dims of its leaves.
      traced: the trace.
      masks: of the units that the small arrays have.
      live: of those among them that are no padding; all of them by default.
    """

    def padding(dims: Axes) -> dict[int, np.ndarray]:
        found = {
            axis: ~traced.dims.kept(dim, masks if live is None else live)[
                traced.dims.kept(dim, masks)
            ]
            for axis, dim in enumerate(dims)
        }
        return {axis: blank for axis, blank in found.items() if blank.any()}

    cuts = [
        Cut(name, tuple(like.shape), kept_by_axis(traced, dims, masks), padding(dims))
        for name, like, dims in zip(leaf_names(full), jax.tree.leaves(full), axes, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(full), cuts)


def cut_tree(tree: PyTree, cuts: PyTree[Cut], what: str) -> PyTree:
    """Cut every leaf of a tree that has the structure and the shapes that ``cuts`` speaks of.

    Raises:
      ValueError: another structure, or a leaf of another shape; the message names it.
    """
    structure: Any = jax.tree.structure(cuts)
    if jax.tree.structure(tree) != structure:
        raise ValueError(
            f"{what} have another structure than the ones that the groups were found on."
        )
    leaves = []
    for leaf, how in zip(jax.tree.leaves(tree), jax.tree.leaves(cuts), strict=True):
        if jnp.shape(leaf) != how.shape:
            raise ValueError(
                f"{what} {how.name!r} has shape {jnp.shape(leaf)}, and {how.shape} where the groups were found."
            )
        leaves.append(how.trailing(leaf))
    return jax.tree.unflatten(structure, leaves)
