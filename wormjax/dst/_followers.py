"""Which leaves of an optimizer's state follow which parameter, and what happens to them at new connections.

A node of the state that has the parameters' structure (or a part of it, under `optax.masked` and
`optax.multi_transform`) holds one leaf a parameter. Whether such a leaf really has the parameter's shape, or only looks
like it (the square preconditioner of a square matrix), is asked of the optimizer: its ``init`` is evaluated abstractly
on parameters whose every axis is longer, each by another number. A row mean of Adafactor has another shape and is left
alone.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

Treatment = Literal["reset", "keep", "mask", "mean"]
FIRST_MOMENTS = ("trace", "mu", "momentum")
SECOND_MOMENTS = ("nu",)


class Follower(NamedTuple):
    """A leaf of the state: the names on its path, and the index of the parameter it follows, or None."""

    names: tuple[str, ...]
    parameter: int | None


def followers(inner: Any, state: PyTree, params: PyTree) -> list[Follower]:
    """Return one `Follower` for every leaf of an optimizer's state, in flatten order.

    Args:
      inner: the optimizer.
      state: its state.
      params: its parameters; shapes are read.

    Raises:
      ValueError: its ``init`` does not take parameters of other sizes.
    """
    leaves, structure = jax.tree.flatten(params)
    treedef: Any = structure
    longer = [tuple(n + 1 + axis for axis, n in enumerate(jnp.shape(x))) for x in leaves]
    resized = [
        jax.ShapeDtypeStruct(shape, x.dtype) for shape, x in zip(longer, leaves, strict=True)
    ]
    try:
        made = jax.eval_shape(inner.init, treedef.unflatten(resized))
    except Exception as error:  # whatever an optimizer stumbles over
        raise ValueError(
            f"The inner optimizer does not take parameters of other sizes ({type(error).__name__}: {error}), so it "
            "cannot be told which of its state follows the parameters. Pass opt_state='keep'."
        ) from error
    of_made: Any = jax.tree.structure(made)
    if of_made != jax.tree.structure(state):
        raise ValueError(
            "The inner optimizer's state has another structure for parameters of other sizes, so it cannot be told "
            "which of it follows the parameters. Pass opt_state='keep'."
        )
    indices = treedef.unflatten(range(len(leaves)))
    found = list(_walk(made, indices, longer, ()))
    # the real shapes have the last word: a leaf may be factored at one size and not at another
    return [
        f
        if f.parameter is None or _ends(jnp.shape(x), jnp.shape(leaves[f.parameter]))
        else Follower(f.names, None)
        for f, x in zip(found, jax.tree.leaves(state), strict=True)
    ]


def _walk(
    node: Any, indices: PyTree, shapes: Sequence[tuple[int, ...]], names: tuple[str, ...]
) -> Iterator[Follower]:
    places = _places(node, indices)
    if places is not None:
        for leaf, place in zip(jax.tree.leaves(node), places, strict=True):
            fits = place is not None and _ends(leaf.shape, shapes[place])
            yield Follower(names, place if fits else None)
        return
    children, _ = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    if len(children) == 1 and children[0][1] is node:
        yield Follower(names, None)
        return
    for path, child in children:
        below = tuple(str(getattr(k, "name", getattr(k, "key", ""))) for k in path)
        yield from _walk(child, indices, shapes, (*names, *below))


def _places(node: Any, indices: PyTree) -> list[int | None] | None:
    """The parameters' indices for the leaves of a node of their structure; None for another node."""
    if not jax.tree.leaves(node) or not jax.tree.leaves(indices):
        return None
    try:
        placed = jax.tree.map(lambda x, i: x if _is_hole(x) else i, node, indices, is_leaf=_is_hole)
    except (ValueError, TypeError):
        return None
    places = [p for p in jax.tree.leaves(placed) if not _is_hole(p)]
    whole = all(isinstance(p, int) for p in places)
    return places if whole and len(places) == len(jax.tree.leaves(node)) else None


def _ends(shape: tuple[int, ...], end: tuple[int, ...]) -> bool:
    """Whether a shape is a parameter's, or has it behind a leading axis (a history)."""
    return len(end) > 0 and shape[len(shape) - len(end) :] == end and len(shape) >= len(end)


def _is_hole(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def moments(
    state: PyTree, found: Sequence[Follower], parameters: Sequence[int], names: Sequence[str]
) -> list[Array] | None:
    """Return the leaf of one of these names for each parameter; None where one has none."""
    at = {
        f.parameter: x
        for f, x in zip(found, jax.tree.leaves(state), strict=True)
        if f.parameter is not None and any(n in names for n in f.names)
    }
    return [at[i] for i in parameters] if all(i in at for i in parameters) else None


def zeroed(state: PyTree, found: Sequence[Follower], masks: dict[int, Array]) -> PyTree:
    """Return the optimizer's state with 0 where the masks prune, so that a new connection starts afresh.

    Args:
      state: the optimizer's state.
      found: what `followers` found.
      masks: by index of the parameter.
    """

    def leaf(x: Array, mask: Array) -> Array:
        return jnp.where(_behind(mask, x), x, jnp.zeros((), x.dtype))

    return _mapped(state, found, masks, leaf)


def averaged(
    state: PyTree, found: Sequence[Follower], old: dict[int, Array], new: dict[int, Array]
) -> PyTree:
    """Return the optimizer's state with the mean over connections that stayed at the new ones.

    Args:
      state: the optimizer's state.
      found: what `followers` found.
      old: masks before, by index of the parameter.
      new: masks after.
    """

    def leaf(x: Array, masks: tuple[Array, Array]) -> Array:
        before, after = (_behind(m, x) for m in masks)
        axes = tuple(range(x.ndim - masks[0].ndim, x.ndim))
        count = jnp.maximum(jnp.sum(before & after), 1).astype(jnp.float32)
        stayed = jnp.where(before & after, x, jnp.zeros((), x.dtype)).astype(jnp.float32)
        mean = (jnp.sum(stayed, axis=axes, keepdims=True) / count).astype(x.dtype)
        return jnp.where(after & ~before, mean, x)

    return _mapped(state, found, {i: (old[i], new[i]) for i in new}, leaf)


def _mapped(
    state: PyTree, found: Sequence[Follower], masks: dict[int, Any], change: Callable
) -> PyTree:
    leaves = [
        change(x, masks[f.parameter])
        if f.parameter in masks and jnp.issubdtype(x.dtype, jnp.inexact)
        else x
        for f, x in zip(found, jax.tree.leaves(state), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(state), leaves)


def _behind(mask: Array, x: Array) -> Array:
    """The mask with an axis for every leading one of a history."""
    return mask.reshape((1,) * (x.ndim - mask.ndim) + mask.shape)
