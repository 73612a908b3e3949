"""Fresh parameters for a tree whose initialiser nobody knows."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from wormjax._shift import SHIFT_NAMES
from wormjax.scores._protocol import SCALE_NAMES, Layout, is_kernel, last_name, lay_out


def fresh_like(params: PyTree, key: PRNGKeyArray) -> PyTree:
    r"""Return new parameters: kernels from :math:`N(0, 2 / \text{fan-in})`, scales 1, shifts 0.

    A kernel's fan-in is the product of all its axes but the last. What has another name stays as it is.

    Args:
      params: any pytree of arrays; shapes and names are read.
      key: PRNG key, folded with the leaf's place in flatten order.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> tree = fresh_like({"kernel": jnp.zeros((2, 3)), "bias": jnp.ones(3)}, jax.random.key(0))
      >>> print(tree["bias"], bool((tree["kernel"] != 0).all()))
      [0. 0. 0.] True

    References:
      He et al., `Delving Deep into Rectifiers <https://arxiv.org/abs/1502.01852>`_, 2015
    """
    return fresh(lay_out(params, None, is_kernel), key)


def fresh(layout: Layout, key: PRNGKeyArray) -> PyTree:
    """Return fresh parameters of a layout; what it ranks is a kernel whatever its name."""
    values: dict[int, Any] = {}
    for leaf in layout.leaves:
        last, x = last_name(leaf.name), leaf.value
        if not jnp.issubdtype(getattr(x, "dtype", jnp.int32), jnp.floating):
            continue
        if leaf.ranked or is_kernel(leaf.name, x):
            values[leaf.index] = _he_normal(jax.random.fold_in(key, leaf.index), x)
        elif last in SCALE_NAMES:
            values[leaf.index] = jnp.ones_like(x)
        elif last in SHIFT_NAMES:
            values[leaf.index] = jnp.zeros_like(x)
    return layout.params(values)


def _he_normal(key: PRNGKeyArray, like: Any) -> Array:
    std = math.sqrt(2 / max(math.prod(like.shape[:-1]), 1))
    return jnp.asarray(std, like.dtype) * jax.random.normal(key, like.shape, like.dtype)
