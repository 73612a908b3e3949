"""MEST: weights that are small and have a small gradient go."""

import jax.numpy as jnp

from wormjax.dst._seen import Seen
from wormjax.dst.criteria._protocol import Criterion


def mest(gamma: float = 1.0) -> Criterion:
    r"""Drop by weight plus gradient: :math:`s_j = |\theta_j| + \gamma |g_j|`.

    It adds two quantities of different units, so that the order depends on loss scaling, batch size and clipping;
    that of `snip` does not.

    Args:
      gamma: weight of the gradient: 1 in the Fantastic Weights study, 0 by default in MEST's own code.

    Returns:
      The criterion.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax.dst import Seen, criteria
      >>> weight = jnp.array([0.5, -0.4])
      >>> print(criteria.mest(2.0)(Seen(weight, weight != 0, gradient=jnp.array([0.1, -0.3]))))
      [0.7 1. ]

    References:
      Yuan et al., `MEST: Accurate and Fast Memory-Economic Sparse Training Framework on the Edge
      <https://arxiv.org/abs/2110.14032>`_, 2021
    """

    def rule(seen: Seen):
        return jnp.abs(seen.weight) + gamma * jnp.abs(seen.gradient)

    return Criterion("mest", rule, ("gradient",))
