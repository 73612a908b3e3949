"""The value that a new connection starts with."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from wormjax.dst._seen import Seen

GrowInit = Callable[[Seen], Array]


def normal(divisor: float = 1.0) -> GrowInit:
    r"""Normal with the standard deviation of the leaf's active weights over ``divisor``."""

    def values(seen: Seen) -> Array:
        assert seen.key is not None
        count = jnp.maximum(jnp.sum(seen.mask), 1).astype(seen.weight.dtype)
        mean = jnp.sum(seen.weight) / count
        spread = jnp.sum(jnp.where(seen.mask, jnp.square(seen.weight - mean), 0)) / count
        noise = jax.random.normal(seen.key, seen.weight.shape, seen.weight.dtype)
        return noise * (jnp.sqrt(spread) / divisor)

    return values


def uniform(divisor: float = 1.0) -> GrowInit:
    r"""Uniform within plus and minus the mean absolute active weight over ``divisor``."""

    def values(seen: Seen) -> Array:
        assert seen.key is not None
        bound = _mean_magnitude(seen) / divisor
        return bound * jax.random.uniform(
            seen.key, seen.weight.shape, seen.weight.dtype, minval=-1.0, maxval=1.0
        )

    return values


def gradient_scaled(divisor: float) -> GrowInit:
    r"""One step downhill: :math:`-g_j` over ``divisor``."""

    def values(seen: Seen) -> Array:
        seen.require("gradient_scaled", ("gradient",))
        assert seen.gradient is not None
        return -seen.gradient / divisor

    return values


def gradient_sign(divisor: float = 1.0) -> GrowInit:
    r"""The mean absolute active weight over ``divisor``, downhill: with the sign of :math:`-g_j`."""

    def values(seen: Seen) -> Array:
        seen.require("gradient_sign", ("gradient",))
        assert seen.gradient is not None
        return -jnp.sign(seen.gradient) * (_mean_magnitude(seen) / divisor)

    return values


def initializer(init: Callable[..., Array], divisor: float = 1.0) -> GrowInit:
    """Draw from a `jax.nn.initializers` function of (key, shape, dtype), over ``divisor``."""

    def values(seen: Seen) -> Array:
        return init(seen.key, seen.weight.shape, seen.weight.dtype) / divisor

    return values


def _mean_magnitude(seen: Seen) -> Array:
    count = jnp.maximum(jnp.sum(seen.mask), 1).astype(seen.weight.dtype)
    return jnp.sum(jnp.abs(seen.weight)) / count
