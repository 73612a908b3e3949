"""Initial weights that fit the number of inputs a sparse layer really has."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from wormjax._masks import check_masks


def scaled_init(params: PyTree, masks: PyTree) -> PyTree:
    r"""Scale initial weights up where masks leave fewer of them.

    .. math:: \theta_l \leftarrow \theta_l / \sqrt{d_l}

    with the density :math:`d_l` of the leaf. An initial variance of :math:`c / n_{in}`, which holds the variance of
    sums over :math:`n_{in}` inputs, becomes :math:`c / (d_l n_{in})`, which does so for the :math:`d_l n_{in}` that are
    left. Leaves without a mask stay. Call it once, before training, and mask what it returns (`wormjax.apply_masks`).

    Args:
      params: initial parameters.
      masks: mask tree, as `wormjax.masks_of` returns it after ``init``.

    Returns:
      Parameters, not masked.

    Raises:
      ValueError: masks do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
      >>> masks = {"kernel": jnp.array([[True, False], [False, False]]), "bias": jnp.array(True)}
      >>> print(scaled_init(params, masks)["kernel"])
      [[2. 2.]
       [2. 2.]]

    References:
      Nowak et al., `Fantastic Weights and How to Find Them <https://arxiv.org/abs/2306.12230>`_, 2023

    Note:
      The study's code takes the density of the whole network for every layer, and the gain of a leaky ReLU.
    """
    check_masks(params, masks)

    def scaled(weight: Any, mask: Any) -> Any:
        if mask.ndim == 0:
            return weight
        kept = jnp.maximum(jnp.sum(mask, dtype=jnp.int32), 1).astype(jnp.float32)
        factor = jnp.sqrt(jnp.float32(math.prod(mask.shape)) / kept)
        return (weight * factor.astype(weight.dtype)).astype(weight.dtype)

    return jax.tree.map(scaled, params, masks)
