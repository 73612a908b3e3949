"""Ratios of gradient and weight."""

import jax.numpy as jnp

from wormjax.dst._seen import Seen
from wormjax.dst.criteria._protocol import Criterion

FLOOR = 1e-8  # of the divisor


def _ratio(seen: Seen):
    return jnp.abs(seen.gradient) / (jnp.abs(seen.weight) + FLOOR)


def _reciprocal(seen: Seen):
    return jnp.abs(seen.weight) / (jnp.abs(seen.gradient) + FLOOR)


def sensitivity() -> Criterion:
    r"""Drop by relative gradient: :math:`s_j = |g_j| / (|\theta_j| + 10^{-8})`.

    Inactive entries, whose ratio is huge, are never compared: in the reference's global version a drop switches
    them on.

    Returns:
      The criterion.

    References:
      Nowak et al., `Fantastic Weights and How to Find Them <https://arxiv.org/abs/2306.12230>`_, 2023
    """
    return Criterion("sensitivity", _ratio, ("gradient",))


def reciprocal_sensitivity() -> Criterion:
    r"""Drop by weight over gradient: :math:`s_j = |\theta_j| / (|g_j| + 10^{-8})`.

    Returns:
      The criterion.

    References:
      Nowak et al., `Fantastic Weights and How to Find Them <https://arxiv.org/abs/2306.12230>`_, 2023
    """
    return Criterion("reciprocal_sensitivity", _reciprocal, ("gradient",))
