"""From layer densities to whole entries."""

import math
from collections.abc import Sequence
from fractions import Fraction

from wormjax.dst.distributions._layers import Layer, Rounding


def to_counts(
    layers: Sequence[Layer], densities: Sequence[Fraction], rounding: Rounding
) -> tuple[int, ...]:
    """Return how many entries each layer keeps at these densities, at least one.

    Args:
      layers: the prunable leaves.
      densities: for each its exact density in [0, 1].
      rounding: ``"total"`` rounds the sum, by `apportion`; ``"rigl"`` removes ``floor((1 - d) N)`` of every
        layer; ``"jaxpruner"`` keeps ``round(d N)`` of it, halves to even.
    """
    quotas = [d * layer.size for d, layer in zip(densities, layers, strict=True)]
    if rounding == "total":
        return apportion(quotas, total=round(sum(quotas, Fraction(0))))
    if rounding == "rigl":
        return tuple(max(1, math.ceil(quota)) for quota in quotas)
    return tuple(max(1, round(quota)) for quota in quotas)


def apportion(quotas: Sequence[Fraction], total: int) -> tuple[int, ...]:
    r"""Round quotas to integers of a given sum by the method of the largest remainder.

    Every quota is rounded down; what is then missing goes, one each, to the largest remainders, ties to
    the lower index. A layer that would keep nothing keeps one entry, taken from the layers that stand
    highest above their quotas.

    Args:
      quotas: exact, not negative; their sum differs from ``total`` by less than 1.
      total: the sum of the result.

    Returns:
      Counts, each at least 1 and at most ``ceil(quota)`` or 1.

    Raises:
      ValueError: there are fewer entries than layers.

    Example:
      >>> apportion([Fraction(5, 2), Fraction(7, 4), Fraction(3, 4)], total=5)
      (2, 2, 1)
    """
    if total < len(quotas):
        raise ValueError(
            f"This density keeps {total} entries for {len(quotas)} prunable leaves, and each must keep at least "
            "one. Raise the density, or leave small leaves out."
        )
    counts = [math.floor(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda i: (counts[i] - quotas[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    counts = [max(1, count) for count in counts]
    while sum(counts) > total:
        givers = [i for i, count in enumerate(counts) if count > 1]
        counts[max(givers, key=lambda i: (counts[i] - quotas[i], i))] -= 1
    return tuple(counts)
