"""Weights as a short text, so that records can say whether two runs ended with the same bits."""

import hashlib

import jax
import numpy as np
from jaxtyping import PyTree


def digest(tree: PyTree) -> str:
    """Return the SHA-256 of every array of a tree: equal texts are equal bits.

    Args:
      tree: arrays of one seed; waits for them.

    Example:
      >>> import jax.numpy as jnp
      >>> digest({"w": jnp.zeros(2)}) == digest({"w": jnp.array([0.0, -0.0])})
      False
    """
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(tree)):
        total.update(np.ascontiguousarray(leaf).tobytes())
    return total.hexdigest()
