"""Growth where the dense gradient is largest."""

import jax.numpy as jnp

from wormjax.dst._seen import Seen
from wormjax.dst.growth._protocol import Growth


def _rule(seen: Seen):
    return jnp.abs(seen.gradient)


def gradient() -> Growth:
    r"""Switch on the inactive entries of the largest :math:`|g_j|`.

    The gradient must be dense: differentiate with respect to the masked parameters, and not through a product with
    the mask, which makes it zero where growth looks. Entries of zero gradient can grow too.

    Returns:
      The growth rule.

    References:
      Evci et al., `Rigging the Lottery <https://arxiv.org/abs/1911.11134>`_, 2019
    """
    return Growth("gradient", _rule, ("gradient",))
