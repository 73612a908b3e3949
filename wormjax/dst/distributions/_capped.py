"""Counts that no layer's bound lets through, and who gets what is left over."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from wormjax.dst.distributions._apportion import apportion
from wormjax.dst.distributions._proportional import scaled_densities


def capped(
    counts: Sequence[int], sizes: Sequence[int], names: Sequence[str], most: Mapping[str, Fraction]
) -> tuple[int, ...]:
    r"""Return counts of the same sum of which none exceeds its bound.

    .. math:: c'_l \approx \min(\lfloor b_l N_l \rfloor, \varepsilon\, c_l), \qquad \sum_l c'_l = \sum_l c_l

    What a layer may not keep goes to the others in proportion to what they had: of Erdős-Rényi-kernel counts that is
    what solving for the bounded densities gives.

    Args:
      counts: entries that a distribution keeps.
      sizes: of the layers.
      names: of the layers.
      most: bounds :math:`b_l` by name, densities in (0, 1]; 1 where there is none.

    Raises:
      ValueError: all bounds together keep less than the counts.

    Example:
      >>> capped((8, 6, 2), (8, 20, 20), ("a", "b", "c"), {"a": Fraction(1, 2)})
      (4, 9, 3)
    """
    bounds = [
        math.floor(most.get(n, Fraction(1)) * size) for n, size in zip(names, sizes, strict=True)
    ]
    total = sum(counts)
    if sum(bounds) < total or min(bounds) < 1:
        told = ", ".join(f"{n!r} {b:,}" for n, b in zip(names, bounds, strict=True) if n in most)
        raise ValueError(
            f"max_density leaves {told}, all leaves {sum(bounds):,} entries together, and {total:,} are to be kept, at "
            "least one of each leaf. Raise max_density, or lower the density."
        )
    if all(c <= b for c, b in zip(counts, bounds, strict=True)):
        return tuple(counts)
    raw = [Fraction(c, size) for c, size in zip(counts, sizes, strict=True)]
    high = [Fraction(b, size) for b, size in zip(bounds, sizes, strict=True)]
    _, densities = scaled_densities(raw, sizes, Fraction(total), high)
    return apportion([d * size for d, size in zip(densities, sizes, strict=True)], total)
