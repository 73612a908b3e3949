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
    """

    name: str
    shape: tuple[int, ...]
    kept: Mapping[int, np.ndarray]

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
        return cut(array, {front + axis: kept for axis, kept in self.kept.items() if front >= 0})

    def broadcast(self, array: Any) -> Any:
        """Cut an array whose last axes broadcast against the parameter: one of size 1 has nothing to lose."""
        front = jnp.ndim(array) - len(self.shape)
        told = {
            front + axis: kept
            for axis, kept in self.kept.items()
            if front >= 0 and jnp.shape(array)[front + axis] == self.shape[axis]
        }
        return cut(array, told)


def kept_by_axis(
    traced: Traced, axes: Axes, masks: Mapping[Dim, np.ndarray]
) -> dict[int, np.ndarray]:
    """Return the kept indices along each axis that loses something."""
    kept = {a: traced.dims.kept(dim, masks) for a, dim in enumerate(axes)}
    return {a: np.flatnonzero(mask) for a, mask in kept.items() if not mask.all()}


def cut(array: Any, kept: Mapping[int, np.ndarray]) -> Any:
    """Return the kept entries of an array, where it was."""
    if _is_on_one_device(array) and kept:
        # by NumPy: the device would compile a program for every shape, which takes longer than the copy
        small: np.ndarray = np.asarray(array)
        for axis, indices in kept.items():
            small = np.take(small, indices, axis=axis)
        return jax.device_put(small, array.sharding) if array.committed else jnp.asarray(small)
    for axis, indices in kept.items():
        array = jnp.take(array, indices, axis=axis)
    return array


def _is_on_one_device(array: Any) -> bool:
    if not isinstance(array, jax.Array) or isinstance(array, jax.core.Tracer):
        return False
    return len(array.devices()) == 1 and not jnp.issubdtype(array.dtype, jax.dtypes.extended)


def cuts_of(
    full: PyTree, axes: Sequence[Axes], traced: Traced, masks: Mapping[Dim, np.ndarray]
) -> PyTree[Cut]:
    """Return a tree of the structure of ``full`` that says how each of its leaves is cut."""
    cuts = [
        Cut(name, tuple(like.shape), kept_by_axis(traced, dims, masks))
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
        leaves.append(cut(leaf, how.kept))
    return jax.tree.unflatten(structure, leaves)
