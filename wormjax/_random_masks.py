"""Random masks that keep as many entries of every leaf as given ones: the control of every mask."""

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
    drawn = []
    for index, mask in enumerate(ranked(masks)):
        order = jax.random.uniform(jax.random.fold_in(key, index), mask.shape, jnp.float32)
        drawn += largest([order], jnp.sum(mask, dtype=jnp.int32))
    return place(drawn, masks)
