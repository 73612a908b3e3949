"""Cutting the state of sparse training: masks and what follows them leaf by leaf; its inner optimizer's on its own."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from wormjax._opt_state import part_of
from wormjax._packing import PackedMask, pack, unpack
from wormjax.dst._initial import counted
from wormjax.dst._patterns import Pattern
from wormjax.dst._state import SparseState
from wormjax.structure._cannot_cut import CannotCutError
from wormjax.structure._slicing import Cut


class Split(NamedTuple):
    """A state of sparse training in two: what has a rule, and what the inner optimizer keeps."""

    masks: SparseState
    inner: PyTree


def split(tree: PyTree) -> PyTree:
    """Return a tree with every state of sparse training in two parts."""

    def visit(node: Any) -> Any:
        if not _is_sparse(node):
            return node
        return Split(dataclasses.replace(node, inner=None), split(node.inner))

    return jax.tree.map(visit, tree, is_leaf=_is_sparse)


def join(tree: PyTree) -> PyTree:
    """Return the tree that `split` was given."""

    def visit(node: Any) -> Any:
        if not isinstance(node, Split):
            return node
        return dataclasses.replace(node.masks, inner=join(node.inner))

    return jax.tree.map(visit, tree, is_leaf=lambda node: isinstance(node, Split))


def cut_sparse(node: SparseState, cuts: PyTree[Cut], fresh: SparseState | None) -> SparseState:
    """Restrict masks, averages, what was ever active and the dense copy, and count again what is kept.

    Raises:
      CannotCutError: the small masks do not follow their pattern, there is padding, or the density is still changing.
    """
    del fresh  # it draws masks of its own
    masks = unpack(node.masks)
    pairs = zip(jax.tree.leaves(part_of(cuts, masks)), jax.tree.leaves(masks), strict=True)
    ranked = [(how, mask) for how, mask in pairs if mask.ndim]
    hows = [how for how, _ in ranked]
    if any(how.padding for how in hows):
        raise CannotCutError("connections would grow into padding", "Shrink without pad_to=.")
    small = [how.trailing(mask) for how, mask in ranked]
    kept = [_kept(*each) for each in zip(hows, node.patterns, small, strict=True)]
    counts = jnp.stack(kept) if kept else node.counts

    def each(values: list[Array] | None) -> list[Array] | None:
        if values is None:
            return None
        return [how.trailing(x) for how, x in zip(hows, values, strict=True)]

    return dataclasses.replace(
        node,
        masks=_placed(node.masks, small),
        counts=counts,
        targets=_targets(node, hows, counts),
        most=_most(node, ranked, counts),
        running=each(node.running),
        gradients=each(node.gradients),
        fired=each(node.fired),
        latent=each(node.latent),
    )


def _kept(how: Cut, pattern: Pattern, mask: Array) -> Array:
    try:
        pattern.check(how.name, how.small)
        return counted(mask, pattern, how.name)
    except ValueError:
        raise CannotCutError(
            f"what is left of the mask of {how.name!r}, of shape {how.small}, does not follow its pattern {pattern}",
            "Pass opt_state='reset', with a tx whose pattern fits the small parameters.",
        ) from None


def _targets(node: SparseState, hows: list[Cut], counts: Array) -> Array | None:
    """At the end of a ramp, what the small masks keep is what they shall keep."""
    if node.targets is None:
        return None
    if int(jnp.sum(node.counts)) != int(jnp.sum(node.targets[1])):
        raise CannotCutError(
            f"its density is still changing: it keeps {node.counts.tolist()} units of its leaves on the way to "
            f"{node.targets[1].tolist()}",
            "Shrink when the ramp has come to its end.",
        )
    units = [p.layout(how.small)[1] for p, how in zip(node.patterns, hows, strict=True)]
    return jnp.stack([jnp.minimum(node.targets[0], jnp.array(units, jnp.int32)), counts])


def _most(node: SparseState, ranked: list[tuple[Cut, Array]], counts: Array) -> Array | None:
    """The same part of what is left, and never less than that keeps already."""
    if node.most is None:
        return None
    bounds = [
        int(bound) * p.layout(how.small)[1] // p.layout(mask.shape)[1]
        for bound, p, (how, mask) in zip(node.most, node.patterns, ranked, strict=True)
    ]
    return jnp.maximum(jnp.array(bounds, jnp.int32), counts)


def _placed(masks: PyTree, small: list[Array]) -> PyTree:
    """The mask tree with the small masks in place of the ranked ones, packed where those are."""
    leaves, treedef = jax.tree.flatten(masks, is_leaf=_is_packed)
    rest = iter(small)
    placed = [pack(next(rest)) if _is_packed(m) else next(rest) if m.ndim else m for m in leaves]
    return jax.tree.unflatten(treedef, placed)


def _is_sparse(node: Any) -> bool:
    return isinstance(node, SparseState)


def _is_packed(node: Any) -> bool:
    return isinstance(node, PackedMask)
