"""Masks that leave the best of every layer alone, and prune the rest together."""

from collections.abc import Sequence
from fractions import Fraction

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from wormjax._selection import largest

PROTECTED_FROM = Fraction(9, 10)  # of a layer's entries, sorted upwards
LARGEST_DENOMINATOR = 2**16 - 1


def protective(leaves: Sequence[Float[Array, "..."]], ratio: Fraction) -> list[Bool[Array, "..."]]:
    r"""Return the masks of Early-Bird's protective variant.

    .. math:: P_l = \{i : s_i > s^{(l)}_{\lfloor 0.9\, C_l \rfloor}\}, \qquad
        m_i = [i \in P] \lor [s_i > \operatorname{sort}(s_{\overline{P}})_k], \qquad
        k = \lfloor p' |\overline{P}| \rfloor

    with sorted positions counted from 0. Without ties each layer protects :math:`C_l - \lfloor 0.9\, C_l \rfloor - 1`
    entries, and k + 1 go.

    Args:
      leaves: scores, a leaf for each layer.
      ratio: the fraction p' of the unprotected entries to prune; its denominator at most `LARGEST_DENOMINATOR`.

    Returns:
      One mask for each leaf.

    Example:
      >>> import jax.numpy as jnp
      >>> scores = [jnp.arange(1.0, 11.0), jnp.arange(10.0, 110.0, 10.0)]
      >>> print([int(m.sum()) for m in protective(scores, Fraction(9, 10))])
      [0, 1]
    """
    guarded = []
    spared: list[Array] = []
    for x in leaves:
        # the position counted from the top; what exceeds the value there is protected
        count = x.size - int(PROTECTED_FROM * x.size)
        [best] = largest([x], count, "strict")
        guarded.append(jnp.where(best, jnp.array(jnp.inf, x.dtype), x))
        spared.append(jnp.sum(best, dtype=jnp.int32))
    total = sum(x.size for x in leaves)
    pool = total - sum(spared[1:], spared[0])
    return largest(guarded, total - floor_product(ratio, pool), "strict")


def floor_product(ratio: Fraction, n: Int[Array, ""]) -> Int[Array, ""]:
    """Return the whole part of ``ratio * n`` in 32-bit integers, exactly.

    Example:
      >>> print(floor_product(Fraction(29, 100), jnp.int32(100)))
      29
    """
    count, over, under = n.astype(jnp.uint32), ratio.numerator, ratio.denominator
    whole = (count // jnp.uint32(under)) * jnp.uint32(over)
    rest = (count % jnp.uint32(under)) * jnp.uint32(over) // jnp.uint32(under)
    return (whole + rest).astype(jnp.int32)
