"""Magnitude: the smallest weights go."""

import jax.numpy as jnp

from wormjax.dst._seen import Seen
from wormjax.dst.criteria._protocol import Criterion


def _rule(seen: Seen):
    return jnp.abs(seen.weight)


def magnitude() -> Criterion:
    r"""Drop the smallest weights: :math:`s_j = |\theta_j|`.

    The references add noise or an epsilon to tell new zeros from pruned ones. Here only active entries
    are compared, and of equal scores the lower index stays.

    Returns:
      The criterion.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax.dst import Seen, criteria
      >>> weight = jnp.array([0.5, -0.4, 0.0])
      >>> print(criteria.magnitude()(Seen(weight, weight != 0)))
      [0.5 0.4 0. ]

    References:
      Evci et al., `Rigging the Lottery <https://arxiv.org/abs/1911.11134>`_, 2019
    """
    return Criterion("magnitude", _rule)
