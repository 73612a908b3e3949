r"""A fraction of a number of entries, in exact integers.

A drop fraction arrives as float32, and 0.1 is none: the float32 next to it is :math:`0.1 + 1.5 \cdot 10^{-9}`, of
which 1000 entries are a little more than 100, and the ceiling 101. So a float32 is read as what was meant: **as the
decimal of at most six digits that it is the nearest float32 of, if there is one, and else as exactly what it is.** The
product with the number of entries and its rounding are exact in either case.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

MILLION = 1_000_000
LOW = (1 << 16) - 1


def ceil_share(p: Float[Array, ""], n: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
    r"""Return :math:`\lceil p\,n \rceil` in exact integers.

    Args:
      p: float32 in [0, 1], read as the module says.
      n: int32, not negative.

    Returns:
      int32 of the shape of ``n``, from 0 to ``n``.

    Example:
      >>> import jax.numpy as jnp
      >>> print(ceil_share(jnp.float32(0.1), jnp.array([1000, 30_000_000, 60_000_001])))
      [    100 3000000 6000001]
    """
    whole, more = _share(p, n)
    return (whole + more.astype(jnp.uint32)).astype(jnp.int32)


def floor_share(p: Float[Array, ""], n: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
    r"""Return :math:`\lfloor p\,n \rfloor` in exact integers.

    Args:
      p: float32 in [0, 1], read as the module says.
      n: int32, not negative.

    Returns:
      int32 of the shape of ``n``, from 0 to ``n``.

    Example:
      >>> import jax.numpy as jnp
      >>> print(floor_share(jnp.float32(0.7), jnp.array([10, 30_000_000])))
      [       7 21000000]
    """
    return _share(p, n)[0].astype(jnp.int32)


def _share(p: Array, n: Array) -> tuple[Array, Array]:
    """The whole part of ``p n``, and whether there is more."""
    mantissa, places = _binary(p)
    millionths = jnp.round(p * jnp.float32(MILLION)).astype(jnp.uint32)
    count = n.astype(jnp.uint32)
    meant = _is_nearest(mantissa, places, millionths)
    decimal, binary = _of_decimal(millionths, count), _of_binary(mantissa, places, count)
    return jnp.where(meant, decimal[0], binary[0]), jnp.where(meant, decimal[1], binary[1])


def _binary(p: Array) -> tuple[Array, Array]:
    """A float32 in [0, 1] as ``mantissa * 2**-places``, with 24 bits and at least 23 places."""
    bits = lax.bitcast_convert_type(p, jnp.uint32)
    exponent = bits >> 23
    hidden = jnp.where(exponent > 0, jnp.uint32(1 << 23), jnp.uint32(0))
    mantissa = (bits & jnp.uint32((1 << 23) - 1)) | hidden
    return mantissa, 150 - jnp.maximum(exponent, 1)


def _is_nearest(mantissa: Array, places: Array, millionths: Array) -> Array:
    """Whether a decimal lies within half a unit of the mantissa's last place; a tie is impossible."""
    high, low = _times(mantissa, jnp.uint32(MILLION))
    # millionths * 2**places; of at least one millionth there are at most 44 places
    beyond = jnp.clip(places, 32, 63) - 32
    below = jnp.minimum(places, 31)
    is_long = places >= 32
    other_high = jnp.where(is_long, millionths << beyond, millionths >> (32 - below))
    other_low = jnp.where(is_long, jnp.uint32(0), millionths << below)
    apart_low = low - other_low
    apart_high = high - other_high - (low < other_low).astype(jnp.uint32)
    half = jnp.uint32(MILLION // 2)
    above = (apart_high == 0) & (apart_low < half)
    under = (apart_high == jnp.uint32(0xFFFFFFFF)) & (jnp.uint32(0) - apart_low < half)
    return above | under


def _of_decimal(millionths: Array, count: Array) -> tuple[Array, Array]:
    """``millionths * count / 10**6``, by thousands, so that nothing exceeds 32 bits."""
    k = jnp.uint32(1000)
    rest = count % jnp.uint32(MILLION)
    cross = (millionths // k) * (rest % k) + (millionths % k) * (rest // k)
    small = cross * k + (millionths % k) * (rest % k)
    whole = millionths * (count // jnp.uint32(MILLION)) + (millionths // k) * (rest // k)
    return whole + small // jnp.uint32(MILLION), small % jnp.uint32(MILLION) != 0


def _of_binary(mantissa: Array, places: Array, count: Array) -> tuple[Array, Array]:
    """``mantissa * count / 2**places``, of 55 bits in two words."""
    high, low = _times(mantissa, count)
    below = jnp.minimum(places, 31)
    short = (high << (32 - below)) | (low >> below), (low << (32 - below)) != 0
    beyond = jnp.clip(places, 32, 63) - 32  # the high word has 23 bits
    long = high >> beyond, ((high - ((high >> beyond) << beyond)) | low) != 0
    is_long = places >= 32
    return jnp.where(is_long, long[0], short[0]), jnp.where(is_long, long[1], short[1])


def _times(a: Array, b: Array) -> tuple[Array, Array]:
    """The product of two uint32 as a high and a low word."""
    low, mask = jnp.uint32(16), jnp.uint32(LOW)
    parts = [x * y for x in (a & mask, a >> low) for y in (b & mask, b >> low)]
    middle = (parts[0] >> low) + (parts[1] & mask) + (parts[2] & mask)
    high = parts[3] + (parts[1] >> low) + (parts[2] >> low) + (middle >> low)
    return high, (parts[0] & mask) | (middle << low)
