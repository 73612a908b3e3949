"""Random masks of exact counts: as many entries of every leaf as given masks keep, or as a caller says."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key, PyTree

from wormjax._selection import largest, place, ranked


def random_like(
    key: Key[Array, ""], masks: PyTree[Bool[Array, "..."]]
) -> PyTree[Bool[Array, "..."]]:
    """Return random masks with the given masks' count in every leaf.

    Args:
      key: PRNG key, folded with the index of the leaf; one key orders a leaf's entries in one way, so that
        masks of growing counts are nested.
      masks: mask tree.

    Returns:
      Mask tree of the same structure and shapes.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> masks = {"w": jnp.array([True, True, False, False, False])}
      >>> int(random_like(jax.random.key(0), masks)["w"].sum())
      2
    """
    return _draw(key, masks)


@jax.jit  # leaf by leaf outside jit, every call would compile its loops anew
def _draw(key: Key[Array, ""], masks: PyTree) -> PyTree:
    leaves = ranked(masks)
    counts = [jnp.sum(mask, dtype=jnp.int32) for mask in leaves]
    return place(random_masks(key, [mask.shape for mask in leaves], counts), masks)


def random_masks(
    key: Key[Array, ""], shapes: Sequence[tuple[int, ...]], counts: Sequence[int | Array]
) -> list[Bool[Array, "..."]]:
    """Return for each shape a mask that keeps exactly so many entries, drawn at random.

    Args:
      key: PRNG key, folded with the place in the list.
      shapes: one for each mask.
      counts: entries to keep; integers or traced int32 scalars.
    """
    masks = []
    for index, (shape, count) in enumerate(zip(shapes, counts, strict=True)):
        order = jax.random.uniform(jax.random.fold_in(key, index), shape, jnp.float32)
        masks += largest([order], count)
    return masks
