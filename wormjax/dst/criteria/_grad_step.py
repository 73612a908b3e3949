"""Magnitude one gradient step ahead."""

import jax.numpy as jnp

from wormjax.dst._seen import Seen
from wormjax.dst.criteria._protocol import Criterion


def grad_step(gamma: float) -> Criterion:
    r"""Drop by the magnitude after one step: :math:`s_j = |\theta_j - \gamma g_j|`.

    Args:
      gamma: the step, in the role of a learning rate. It has no default: the reference's local version ignores the
        one it is given, and uses 1.

    Returns:
      The criterion.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax.dst import Seen, criteria
      >>> weight = jnp.array([0.5, -0.5])
      >>> print(criteria.grad_step(0.5)(Seen(weight, weight != 0, gradient=jnp.ones(2))))
      [0. 1.]

    References:
      Nowak et al., `Fantastic Weights and How to Find Them <https://arxiv.org/abs/2306.12230>`_, 2023
    """

    def rule(seen: Seen):
        return jnp.abs(seen.weight - gamma * seen.gradient)

    return Criterion("grad_step", rule, ("gradient",))
