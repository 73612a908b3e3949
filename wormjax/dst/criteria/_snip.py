"""SNIP and its variants: what the loss would change by, to first order, if a weight were removed."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array

from wormjax.dst._seen import Seen
from wormjax.dst.criteria._protocol import Choose, Criterion, only


def _sensitivity(seen: Seen):
    return jnp.abs(seen.weight * seen.gradient)


def _signed(seen: Seen):
    return -(seen.weight * seen.gradient)


def snip() -> Criterion:
    r"""Drop by connection sensitivity: :math:`s_j = |\theta_j g_j|`. Invariant to the scale of the loss.

    Returns:
      The criterion.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax.dst import Seen, criteria
      >>> weight = jnp.array([0.5, -0.5])
      >>> print(criteria.snip()(Seen(weight, weight != 0, gradient=jnp.array([0.0, 2.0]))))
      [0. 1.]

    References:
      Lee et al., `SNIP: Single-shot Network Pruning based on Connection Sensitivity
      <https://arxiv.org/abs/1810.02340>`_, 2019
    """
    return Criterion("snip", _sensitivity, ("gradient",))


def snip_plus() -> Criterion:
    r"""Drop the weights whose removal lowers the loss most, to first order: :math:`s_j = -\theta_j g_j`.

    Without :math:`\theta_j` the loss changes by about :math:`-\theta_j g_j`.

    Returns:
      The criterion.

    References:
      Nowak et al., `Fantastic Weights and How to Find Them <https://arxiv.org/abs/2306.12230>`_, 2023
    """
    return Criterion("snip_plus", _signed, ("gradient",))


def snip_half(legacy: bool = False) -> Criterion:
    r"""Drop the lowest and the highest sensitivities, half of the number each.

    Of ``n``, :math:`\lfloor n/2 \rfloor` are the highest of :math:`|\theta_j g_j|` and the rest the lowest.

    Args:
      legacy: drop :math:`\lfloor n/2 \rfloor` at both ends, as the reference does, thus one too few where n is odd.
        (For n = 1 the reference removes the whole layer. We do not.)

    Returns:
      The criterion. Not for patterns of several segments (N:M, constant fan-in).

    References:
      Nowak et al., `Fantastic Weights and How to Find Them <https://arxiv.org/abs/2306.12230>`_, 2023
    """
    keep = functools.partial(_keep_middle, legacy=legacy)
    return Criterion("snip_half", _sensitivity, ("gradient",), keep, segmented=False)


def _keep_middle(
    scores: Sequence[Array],
    active: Sequence[Array],
    kept: Array,
    dropped: Array,
    choose: Choose,
    *,
    legacy: bool,
) -> list[Array]:
    high = dropped // 2
    low = high if legacy else dropped - high
    compared = [only(a, s) for a, s in zip(active, scores, strict=True)]
    not_low = choose(compared, kept + dropped - low)
    highest = choose(compared, high)
    return [n & ~h for n, h in zip(not_low, highest, strict=True)]
