"""How the density goes from its initial to its final value: 0 is the initial one, 1 the final one."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Ramp = Callable[[Array, Array, Array], Float[Array, ""]]


def _passed(step: Array, begin: Array, end: Array) -> Float[Array, ""]:
    """The part of the span that is over: exactly 1 from ``end`` on."""
    span = jnp.maximum(end - begin, 1).astype(jnp.float32)
    q = jnp.clip(step - begin, 0, None).astype(jnp.float32) / span
    return jnp.where(step >= end, jnp.float32(1), jnp.minimum(q, jnp.float32(1)))


def polynomial(power: int = 3) -> Ramp:
    r"""Fast at first, slow at the end: :math:`1 - (1 - q)^3` with the passed part ``q`` of the span.

    It is exactly 1 at the end, so that the final density is reached. (JaxPruner's stops short where the period does not
    divide the span; ITOP's and GraNet's divide by one too many.)

    Args:
      power: of ``1 - q``; 1 is linear.

    Returns:
      A ramp ``(step, begin, end) -> float32``.

    Example:
      >>> import jax.numpy as jnp
      >>> ramp = polynomial()
      >>> print([round(float(ramp(jnp.int32(t), jnp.int32(0), jnp.int32(10))), 4) for t in (0, 1, 5, 9, 10)])
      [0.0, 0.271, 0.875, 0.999, 1.0]

    References:
      Zhu & Gupta, `To prune, or not to prune <https://arxiv.org/abs/1710.01878>`_, 2017
    """

    def at(step: Int[Array, ""], begin: Int[Array, ""], end: Int[Array, ""]) -> Array:
        return 1 - (1 - _passed(step, begin, end)) ** power

    return at


def phases(steps: int) -> Ramp:
    """Alternate: sparse for ``steps``, at the initial density for as many, and sparse at the end.

    Args:
      steps: optimizer updates of a phase; a multiple of ``every``.

    Returns:
      A ramp ``(step, begin, end) -> float32``, 0 or 1.

    References:
      Peste et al., `AC/DC: Alternating Compressed/DeCompressed Training <https://arxiv.org/abs/2106.12379>`_, 2021
    """
    if steps < 1:
        raise ValueError(f"A phase lasts a positive number of updates, got {steps}.")

    def at(step: Int[Array, ""], begin: Int[Array, ""], end: Int[Array, ""]) -> Array:
        sparse = ((step - begin) // steps) % 2 == 0
        return jnp.where(sparse | (step >= end), jnp.float32(1), jnp.float32(0))

    return at
