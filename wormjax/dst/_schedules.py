"""Which fraction of the kept entries a mask update drops, as a function of the step."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

Schedule = Callable[[Array, Array, Array], Float[Array, ""]]


def constant(fraction: float) -> Schedule:
    """The same fraction at every update."""
    return lambda step, begin, end: jnp.float32(fraction)


def cosine(fraction: float = 0.5, eta: float = 0.005) -> Schedule:
    """From ``fraction`` at ``begin`` to ``eta`` at ``end``, along half a cosine."""

    def at(step: Array, begin: Array, end: Array) -> Float[Array, ""]:
        span = jnp.maximum(end - begin, 1).astype(jnp.float32)
        q = jnp.clip((step - begin).astype(jnp.float32) / span, 0, 1)
        return jnp.float32(eta) + jnp.float32(0.5 * (fraction - eta)) * (1 + jnp.cos(jnp.pi * q))

    return at
