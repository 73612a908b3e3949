"""Powers of two: the only factors that change no digit."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int


def power_of_two(exponent: Int[Array, ""], dtype: jnp.dtype) -> Array:
    """Return ``2**exponent``, made of its bits (XLA's pow rounds); 0 below the normal numbers.

    Args:
      exponent: int32 scalar; what is above the largest power of the dtype stands for that power.
      dtype: floating-point; below 32 bits the power is that of float32, cast.
    """
    if dtype == jnp.float64:
        bits = (jnp.clip(exponent, -1022, 1023).astype(jnp.int64) + 1023) << 52
        power, lowest = lax.bitcast_convert_type(bits, jnp.float64), -1022
    else:
        bits = (jnp.clip(exponent, -126, 127).astype(jnp.int32) + 127) << 23
        power, lowest = lax.bitcast_convert_type(bits, jnp.float32), -126
    return jnp.where(exponent < lowest, jnp.zeros((), power.dtype), power).astype(dtype)


def times_power(x: Array, exponent: Int[Array, ""]) -> Array:
    """Return ``x * 2**exponent``, exact wherever the result is a normal number."""
    return x * power_of_two(exponent, x.dtype)


def binary_exponent(x: Array) -> Int[Array, ""]:
    """Return the e of ``2**(e-1) <= max|x| < 2**e``; 0 where that is zero or not finite. No gradient."""
    top = jnp.max(jnp.abs(lax.stop_gradient(x)), initial=0)
    if top.dtype.itemsize < 4:
        top = top.astype(jnp.float32)
    good = jnp.isfinite(top) & (top > 0)
    _, exponent = jnp.frexp(jnp.where(good, top, jnp.ones_like(top)))
    return jnp.where(good, exponent.astype(jnp.int32), jnp.int32(0))


def scaled_sum(parts: list[tuple[Array, Int[Array, ""]]]) -> tuple[Array, Int[Array, ""]]:
    """Add arrays that stand for ``x * 2**e`` each; the sum is of the same form.

    Example:
      >>> import jax.numpy as jnp
      >>> x, e = scaled_sum([(jnp.float32(3), jnp.int32(2)), (jnp.float32(1), jnp.int32(0))])
      >>> float(x), int(e)
      (3.25, 2)
    """
    arrays, exponent = aligned(parts)
    return sum(arrays[1:], arrays[0]), exponent


def aligned(parts: list[tuple[Array, Int[Array, ""]]]) -> tuple[list[Array], Int[Array, ""]]:
    """Bring arrays that stand for ``x * 2**e`` to their largest exponent."""
    exponent = parts[0][1]
    for _, e in parts[1:]:
        exponent = jnp.maximum(exponent, e)
    return [times_power(x, e - exponent) for x, e in parts], exponent


def balanced(x: Array, exponent: Int[Array, ""]) -> tuple[Array, Int[Array, ""]]:
    """Bring ``x`` near 1 by a power of two, which goes into the exponent."""
    # a compiler that fuses would compute the exponents of all layers before anew in every layer
    found, total = lax.optimization_barrier((found := binary_exponent(x), exponent + found))
    return times_power(x, -found), total


def true_scale(x: jax.Array, exponent: Int[Array, ""]) -> Int[Array, ""]:
    """Return the exponent to multiply with so that what belongs to ``x * 2**exponent`` stays representable.

    That is ``exponent`` itself, unless the true values leave the range of the dtype: then all are divided by
    one power of two, which changes no order.
    """
    room = 1000 if x.dtype == jnp.float64 else 100
    size = exponent + binary_exponent(x)
    return exponent + jnp.clip(size, -room // 2, room) - size
