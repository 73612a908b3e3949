"""First-order Taylor expansion, squared."""

import jax.numpy as jnp

from wormjax.dst._seen import Seen
from wormjax.dst.criteria._protocol import Criterion


def _rule(seen: Seen):
    return jnp.square(seen.weight * seen.gradient)


def taylor() -> Criterion:
    r"""Drop by :math:`s_j = (\theta_j g_j)^2`, which orders as `snip` does.

    Where :math:`|\theta_j g_j| < 10^{-19}` the square is 0 in float32, and ties go by index.

    Returns:
      The criterion.

    References:
      Molchanov et al., `Importance Estimation for Neural Network Pruning <https://arxiv.org/abs/1906.10771>`_, 2019
    """
    return Criterion("taylor", _rule, ("gradient",))
