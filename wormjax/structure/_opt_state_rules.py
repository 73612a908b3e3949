"""Optimizer states whose leaves are not shaped like the parameters: how each is cut, by name, or why it is not.

A rule gets a node of the state, the tree of cuts, and the node that the same transformation makes for the small
parameters (None where it refuses to make one). Where `optax.masked` or `optax.multi_transform` show an optimizer a
part of the parameters, the rest is `optax.MaskedNode`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Array, PyTree
from optax.contrib import GaLoreState

from wormjax._opt_state import part_of
from wormjax._policies import on_fewer
from wormjax._truncate import TruncateState
from wormjax._worm import WormState
from wormjax.dst._state import SparseState
from wormjax.structure._cannot_cut import CannotCutError
from wormjax.structure._slicing import Cut, cut
from wormjax.structure._sparse_slicing import cut_sparse

Rule = Callable[[Any, PyTree[Cut], Any], Any]
# what was found in the full network, found again in the small one; raises `CannotCutError`
Regroup = Callable[[Any], Any]


def _truncate(node: TruncateState, cuts: PyTree[Cut], fresh: TruncateState | None) -> TruncateState:
    del fresh  # a transformation that holds masks of the full size makes none
    return dataclasses.replace(node, masks=_cut_masks(node.masks, cuts))


def _worm(node: WormState, cuts: PyTree[Cut], fresh: WormState | None) -> WormState:
    """Restrict the window of masks and the masks in force, and count again what differs.

    The detector goes on with the small network's numbers of entries, for the policy's trigger too.
    """
    del fresh  # it holds the groups of the full network, where it holds any
    planes = _cut_masks(node.detector.planes, cuts)
    detector = node.settings.detection.on_fewer(node.detector, planes)
    pairs = node.settings.detection.window - 1
    return dataclasses.replace(
        node,
        detector=detector,
        policy=on_fewer(node.policy, pairs, sum(detector.sizes)),
        truncation=_truncate(node.truncation, cuts, None),
    )


def holds_groups(node: Any) -> bool:
    """Whether a state refers to groups of the network that it is the optimizer's for."""
    return isinstance(node, WormState) and node.settings.groups is not None


def with_groups(node: WormState, regroup: Regroup) -> WormState:
    """Let a state that was cut refer to the groups of the small network: it extends the masks to come by them."""
    settings = dataclasses.replace(node.settings, groups=regroup(node.settings.groups))
    return dataclasses.replace(node, settings=settings)


def _sm3(node: optax.ScaleBySM3State, cuts: PyTree[Cut], fresh: Any) -> Any:
    """One maximum for each index of each axis; a removed entry, being zero, is never the maximum."""
    del fresh

    def of_leaf(how: Cut, maxima: list[Array]) -> list[Array]:
        return [
            cut(m, {0: how.kept[axis]}) if axis in how.kept else m for axis, m in enumerate(maxima)
        ]

    part = part_of(cuts, node.nu)
    return node._replace(
        mu=jax.tree.map(of_leaf, part, node.mu),
        nu=jax.tree.map(lambda how, x: how.trailing(x), part, node.nu),
    )


def _factored(
    node: optax.FactoredState, cuts: PyTree[Cut], fresh: optax.FactoredState | None
) -> Any:
    r"""Row and column means of the squared gradients (Adafactor).

    :math:`v_{ij} = r_i c_j / \operatorname{mean}(r)` with means over full axes of ``n`` entries. Removed entries
    add nothing to their sums, so over ``n'`` kept entries the same sums make means that are ``n / n'`` times as large,
    and then :math:`v_{ij}` is what it was.
    """
    if fresh is None:
        raise CannotCutError("its shapes depend on sizes that tx refuses")

    def of_leaf(how: Cut, row: Array, column: Array, v: Array, new_v: Array) -> list[Array]:
        if v.shape == how.shape:  # not factored
            if new_v.shape != how.small:
                raise CannotCutError(
                    f"{how.name!r} is factored at {how.small} and not at full size"
                )
            return [row, column, how.trailing(v)]
        if new_v.shape == how.small:
            raise CannotCutError(f"{how.name!r} is too narrow at {how.small} to be factored")
        first, second = _largest_two(how.shape)
        if {first, second} != set(_largest_two(how.small)):
            raise CannotCutError(f"{how.name!r} is factored along other axes at {how.small}")
        means = {second: row, first: column}  # by the axis that was averaged over
        scaled = [_mean_of_kept(how, averaged, means[averaged]) for averaged in means]
        # rows are what is averaged over the longest axis, which may be the other one by now
        swapped = _largest_two(how.small) != (first, second)
        return [*(scaled[::-1] if swapped else scaled), v]

    part = part_of(cuts, node.v)
    cut_leaves = jax.tree.map(of_leaf, part, node.v_row, node.v_col, node.v, fresh.v)
    rows, columns, vs = (
        jax.tree.map(lambda _, parts, k=k: parts[k], part, cut_leaves) for k in range(3)
    )
    return node._replace(v_row=rows, v_col=columns, v=vs)


def _largest_two(shape: tuple[int, ...]) -> tuple[int, int]:
    """The second largest and the largest axis, as Adafactor chooses them."""
    order = np.argsort(shape)
    return int(order[-2]), int(order[-1])


def _mean_of_kept(how: Cut, averaged: int, mean: Array) -> Array:
    """A mean over one axis of a parameter, as a mean over that axis' kept entries."""
    kept = {a - (a > averaged): k for a, k in how.kept.items() if a != averaged}
    return cut(mean, kept) * (how.shape[averaged] / how.small[averaged])


def _galore(node: Any, cuts: PyTree[Cut], fresh: Any) -> Any:
    raise CannotCutError(
        "it projects gradients on singular vectors of the full matrices, whose kept rows are neither orthonormal nor "
        "singular vectors of the small ones"
    )


def _cut_masks(masks: PyTree, cuts: PyTree[Cut]) -> PyTree:
    return jax.tree.map(lambda how, mask: how.broadcast(mask), part_of(cuts, masks), masks)


RULES: dict[type, Rule] = {
    TruncateState: _truncate,
    WormState: _worm,
    SparseState: cut_sparse,
    optax.ScaleBySM3State: _sm3,
    optax.FactoredState: _factored,
    GaLoreState: _galore,
}
