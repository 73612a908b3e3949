r"""A fraction of a count, in exact integers on the device.

A drop fraction arrives as a float32, and ``p * n`` in float32 is wrong by whole entries from 2^24 entries on. So p is
read as a fixed-point number of 30 binary digits and multiplied limb by limb in unsigned 32-bit integers.

A decimal such as 0.1 is not a float32. The nearest one is above it, and its exact share of 1000 would round up to 101.
Half the distance to the next float32 is therefore taken off before rounding up and added before rounding down: where
``p * n`` is a whole number for the decimal that was written, that is the count.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

DIGITS = 30


def ceil_share(p: Float[Array, ""], n: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
    r"""Return :math:`\lceil p\,n \rceil` in exact integers.

    Args:
      p: float32 in [0, 1].
      n: int32, not negative.

    Returns:
      int32 of the shape of ``n``, from 0 to ``n``.

    Example:
      >>> import jax.numpy as jnp
      >>> print(ceil_share(jnp.float32(0.1), jnp.array([1000, 30_000_000, 60_000_000])))
      [    100 3000000 6000000]
    """
    whole, rest = _product(_between(p, -1), n)
    return _at_most(whole + (rest != 0).astype(jnp.uint32), n)


def floor_share(p: Float[Array, ""], n: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
    r"""Return :math:`\lfloor p\,n \rfloor` in exact integers.

    Args:
      p: float32 in [0, 1].
      n: int32, not negative.

    Returns:
      int32 of the shape of ``n``, from 0 to ``n``.

    Example:
      >>> import jax.numpy as jnp
      >>> print(floor_share(jnp.float32(0.7), jnp.array([10, 30_000_000])))
      [       7 21000000]
    """
    whole, _ = _product(_between(p, 1), n)
    return _at_most(whole, n)


def _at_most(share: Array, n: Array) -> Array:
    # compared unsigned: the share of 2^31 - 1 may be above it
    return jnp.minimum(share, n.astype(jnp.uint32)).astype(jnp.int32)


def _between(p: Array, direction: int) -> Array:
    """Fixed point half way from ``p`` to the next float32 below or above, never beyond 0."""
    bits = lax.bitcast_convert_type(p.astype(jnp.float32), jnp.int32)
    other = lax.bitcast_convert_type(jnp.maximum(bits + direction, 0), jnp.float32)
    fixed = [(x * jnp.float32(1 << DIGITS)).astype(jnp.uint32) for x in (p, other)]
    middle = (fixed[0] + fixed[1]) >> 1
    if direction > 0:  # below 2^-7 both were cut to the same unit
        middle = middle + jnp.uint32(1)
    # a fraction of few binary digits (1/2, 1, 0) is what was written
    return jnp.where((bits & jnp.int32(0xFFF)) == 0, fixed[0], middle)


def _product(fixed: Array, n: Array) -> tuple[Array, Array]:
    """``fixed * n`` as a whole number and a remainder in units of 2^-30."""
    count = n.astype(jnp.uint32)
    high, low = count >> 16, count & jnp.uint32(0xFFFF)
    above, below = fixed >> 15, fixed & jnp.uint32(0x7FFF)
    # worth 2^31, 2^15, 2^16 and 1 units; none exceeds 32 bits
    parts = (above * high, above * low, below * high, below * low)
    whole = (parts[0] << 1) + (parts[1] >> 15) + (parts[2] >> 14) + (parts[3] >> DIGITS)
    rest = (
        ((parts[1] & jnp.uint32(0x7FFF)) << 15)
        + ((parts[2] & jnp.uint32(0x3FFF)) << 16)
        + (parts[3] & jnp.uint32((1 << DIGITS) - 1))
    )
    return whole + (rest >> DIGITS), rest & jnp.uint32((1 << DIGITS) - 1)
