"""Inputs to try a network on."""

from typing import Any

import jax.numpy as jnp
import numpy as np


def example_input(shape: Any) -> Any:
    """Return a fixed array of a shape and dtype: spread over [-1, 1], or over a few small integers.

    Args:
      shape: a `jax.ShapeDtypeStruct`.
    """
    if jnp.issubdtype(shape.dtype, jnp.floating):
        flat = jnp.sin(jnp.arange(int(np.prod(shape.shape)), dtype=jnp.float32) * 12.9898)
        return flat.astype(shape.dtype).reshape(shape.shape)
    if jnp.issubdtype(shape.dtype, jnp.integer):
        flat = jnp.arange(int(np.prod(shape.shape)), dtype=jnp.int32) % 2
        return flat.astype(shape.dtype).reshape(shape.shape)
    return jnp.zeros(shape.shape, shape.dtype)
