"""The shift that belongs to a normalisation scale."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from wormjax._paths import leaf_names

SHIFT_NAMES = ("bias", "shift", "offset", "beta")


def extend_to_shift(
    params: PyTree, masks: PyTree[Bool[Array, "..."]]
) -> PyTree[Bool[Array, "..."]]:
    """Give the shift beside a masked scale the scale's mask.

    A shift is a leaf called bias, shift, offset or beta that nothing masks yet and that has the shape of
    the masked leaf beside it. A kernel's bias has another shape than its kernel and is left alone.

    Args:
      params: the parameters (shapes and names only are read).
      masks: mask tree for them.

    Returns:
      The mask tree with the shifts masked too.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"bn": {"scale": jnp.ones(3), "bias": jnp.zeros(3)}}
      >>> masks = {"bn": {"scale": jnp.array([True, False, True]), "bias": jnp.array(True)}}
      >>> print(extend_to_shift(params, masks)["bn"]["bias"])
      [ True False  True]
    """
    names, shapes = leaf_names(params), [jnp.shape(p) for p in jax.tree.leaves(params)]
    leaves = jax.tree.leaves(masks)
    scales = {
        (_parent(name), shape): mask
        for name, shape, mask in zip(names, shapes, leaves, strict=True)
        if mask.ndim
    }
    extended = [
        scales.get((_parent(name), shape), mask)
        if mask.ndim == 0 and shape and name.rsplit("/", 1)[-1] in SHIFT_NAMES
        else mask
        for name, shape, mask in zip(names, shapes, leaves, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(masks), extended)


def _parent(name: str) -> str:
    return name.rsplit("/", 1)[0] if "/" in name else ""
