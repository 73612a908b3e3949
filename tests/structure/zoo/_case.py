from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Example(NamedTuple):
    """A network to prune.

    Attributes:
      apply: ``apply(params, *inputs)``, or ``apply(params, state, *inputs) -> (output, state)``.
      params: float32 arrays.
      state: arrays, or None.
      inputs: arrays.
      groups: how many groups a reading of the architecture finds.
    """

    apply: Callable[..., Any]
    params: Any
    state: Any
    inputs: tuple
    groups: int


CASES: dict[str, Callable[[], Example]] = {}


def case(make: Callable[[], Example]) -> Callable[[], Example]:
    """Enter a case under its function's name."""
    CASES[make.__name__] = make
    return make


def draws(tree: Any, seed: int = 0) -> Any:
    """Return values for abstract parameters or statistics: nothing zero, nothing at its initial value.

    Float leaves are uniform in [0.5, 1.5] where they are vectors (scales, variances, biases) and normal with the
    fan-in's standard deviation elsewhere.
    """
    rng = np.random.default_rng(seed)

    def leaf(x: Any) -> Any:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return jnp.zeros(x.shape, x.dtype)
        if len(x.shape) <= 1:
            return jnp.asarray(rng.uniform(0.5, 1.5, x.shape), x.dtype)
        fan_in = max(int(np.prod(x.shape[:-1])), 1)
        return jnp.asarray(rng.normal(size=x.shape) / np.sqrt(fan_in), x.dtype)

    return jax.tree.map(leaf, tree)


def images(side: int = 8, batch: int = 2, channels: int = 3) -> jax.Array:
    """Return normal images, NHWC."""
    rng = np.random.default_rng(7)
    return jnp.asarray(rng.normal(size=(batch, side, side, channels)), jnp.float32)


def tokens(length: int = 6, batch: int = 2, vocabulary: int = 11) -> jax.Array:
    """Return int32 tokens."""
    return jnp.asarray(np.random.default_rng(7).integers(0, vocabulary, (batch, length)), jnp.int32)
