"""From a mask tree to the units that stay."""

from collections.abc import Iterable

import jax
import numpy as np
from jaxtyping import Array, Bool, PyTree

from wormjax._masks import check_masks
from wormjax.structure._groups import Group, Groups


def unit_masks(
    groups: Groups, masks: PyTree[Bool[Array, "..."]], among: Iterable[Group]
) -> dict[str, Bool[np.ndarray, " _"]]:
    """Read off a mask tree which units stay.

    A unit goes when some mask speaks of it and none keeps any of its entries. So a residual stream keeps the union of
    its producers' masks, and a weight that is pruned entry by entry loses nobody until a whole slice is gone. A mask
    with size 1 along an axis says nothing about the units on it, unless it prunes the whole leaf.

    Args:
      groups: the groups.
      masks: mask tree of the parameters.
      among: the groups of interest.

    Returns:
      For each of these groups that some mask speaks of, one bool a unit.

    Raises:
      ValueError: the masks do not fit the parameters, or prune entries and yet let no unit go.
    """
    check_masks(groups.shapes, masks)
    leaves = [np.asarray(mask) for mask in jax.tree.leaves(masks)]
    found = {}
    for group in among:
        kept = [
            _on_axis(groups, group, leaf, axis, leaves[leaf])
            for leaf, _, axis in group.slices
            if _speaks(leaves[leaf], axis)
        ]
        if kept:
            found[group.name] = np.any(kept, axis=0)
    pruning = [groups.traced.names[i] for i, mask in enumerate(leaves) if not mask.all()]
    if pruning and all(kept.all() for kept in found.values()):
        raise ValueError(
            f"The masks prune entries of {pruning[0]!r}, but no unit of any group that may be pruned is masked on all "
            "the parameters that speak of it: nothing would become smaller. Print groups.explain() and prune whole "
            "channels."
        )
    return found


def _speaks(mask: np.ndarray, axis: int) -> bool:
    return mask.ndim > 0 and (mask.shape[axis] > 1 or not mask.any())


def _on_axis(groups: Groups, group: Group, leaf: int, axis: int, mask: np.ndarray) -> np.ndarray:
    """Whether a mask keeps some entry of each unit on an axis of a parameter."""
    dim = groups.traced.params[leaf][axis]
    some = np.any(np.moveaxis(mask, axis, 0).reshape(mask.shape[axis], -1), axis=1)
    places = groups.traced.dims.project(dim, group.atom, np.broadcast_to(some, (dim.size,)))
    return np.any(places, axis=1)
