"""Initial masks: positions drawn at random, counts as a distribution says."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key, PyTree

from wormjax._masks import never_pruned
from wormjax._random_masks import random_masks
from wormjax.dst.distributions._layers import Count, Layer, layers_of


def sample(
    key: Key[Array, ""],
    params: PyTree,
    may: PyTree,
    counts: Sequence[Count],
    exact: bool = True,
) -> PyTree[Bool[Array, "..."]]:
    """Draw masks that keep so many entries of every prunable leaf, at random positions.

    Args:
      key: PRNG key, folded with the place of a leaf among the prunable ones. One key orders a leaf's
        entries in one way, so masks of growing counts are nested.
      params: any pytree of arrays; shapes are read.
      may: tree of bools as `wj.prunable` returns.
      counts: entries to keep, one for each prunable leaf in flatten order: what a distribution returns.
      exact: ``False`` keeps every entry with probability ``count / size``, as the codes of ITOP and
        Fantastic Weights do, so that counts are right on average only.

    Returns:
      Mask tree of ``params``; leaves that are not prunable are the rank-0 ``True``.

    Raises:
      ValueError: another number of counts than prunable leaves, or a count out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> params, may = {"w": jnp.ones((4, 5)), "b": jnp.ones(5)}, {"w": True, "b": False}
      >>> masks = sample(jax.random.key(0), params, may, (7,))
      >>> int(masks["w"].sum()), masks["b"].shape
      (7, ())
    """
    layers = layers_of(params, may)
    _check_counts(layers, counts)
    shapes = tuple(layer.shape for layer in layers)
    drawn = iter(_draw(key, [jnp.asarray(c, jnp.int32) for c in counts], shapes, exact))
    leaves = [next(drawn) if chosen else never_pruned() for chosen in jax.tree.leaves(may)]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def _check_counts(layers: Sequence[Layer], counts: Sequence[Count]) -> None:
    if len(counts) != len(layers):
        raise ValueError(
            f"There are {len(counts)} counts for {len(layers)} prunable leaves "
            f"({', '.join(repr(layer.name) for layer in layers)}). Give one for each."
        )
    for layer, count in zip(layers, counts, strict=True):
        if isinstance(count, int) and not 0 <= count <= layer.size:
            raise ValueError(
                f"{count} entries of {layer.name!r} cannot be kept: it has {layer.size}."
            )


@functools.partial(jax.jit, static_argnums=(2, 3))
def _draw(
    key: Key[Array, ""], counts: list[Array], shapes: tuple[tuple[int, ...], ...], exact: bool
) -> list[Array]:
    if exact:
        return random_masks(key, shapes, counts)
    keys = [jax.random.fold_in(key, index) for index in range(len(shapes))]
    return list(map(kept_with_probability, keys, shapes, counts))


def kept_with_probability(
    key: Key[Array, ""] | Array, shape: tuple[int, ...], count: Int[Array, ""]
) -> Bool[Array, "..."]:
    """Keep every entry with probability ``count / size``, whatever becomes of the others."""
    share = count.astype(jnp.float32) / math.prod(shape)
    return jax.random.bernoulli(key, share, shape)
