"""How many channels Refill keeps of a layer, and which."""

import math
from fractions import Fraction
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from wormjax._selection import check_choice

RefillCount = Literal["ceil", "reference"]


def refill_count(
    nonzeros: int, size: int, channels: int, rho: Fraction = Fraction(0), align: int = 1
) -> tuple[int, int]:
    r"""Return how many channels stay, before and after rounding to a hardware width.

    .. math:: k = \max(1, \lceil d C + (1 - d) C \rho \rceil), \qquad d = \text{nonzeros} / \text{size}

    Args:
      nonzeros: weights that the mask keeps.
      size: all weights of the layer.
      channels: C.
      rho: the fraction of the pruned channels that Refill+ fills back.
      align: round up to a multiple of this, or to C.

    Example:
      >>> refill_count(33, 64, 64), refill_count(1, 2, 64, Fraction(1, 5), align=8)
      ((33, 33), (39, 40))
    """
    alive = Fraction(nonzeros, size) * channels
    k = max(1, min(channels, math.ceil(alive + (channels - alive) * rho)))
    return k, min(channels, -(-k // align) * align)


def keep_channels(
    scores: Float[np.ndarray, " C"],
    nonzeros: int,
    size: int,
    *,
    rho: Fraction = Fraction(0),
    align: int = 1,
    count: RefillCount = "ceil",
    rng: np.random.Generator | None = None,
) -> tuple[Bool[np.ndarray, " C"], int]:
    """Return which channels stay, and how many they would be without rounding to a width.

    Args:
      scores: one a channel, higher stays; ties go by index, the lower one stays.
      nonzeros: weights that the mask keeps.
      size: all weights of the layer.
      rho: as in `refill_count`.
      align: as in `refill_count`.
      count: ``"ceil"``, or ``"reference"``: what exceeds the (C - q)-th smallest score, q being the floor, and one
        more drawn among those equal to it. That is q + 1 channels where scores are distinct.
      rng: for the draw.
    """
    check_choice("count", count, ("ceil", "reference"))
    channels = len(scores)
    k, wide = refill_count(nonzeros, size, channels, rho, align)
    kept = np.zeros(channels, bool)
    if count == "reference":
        alive = Fraction(nonzeros, size) * channels
        q = math.floor(alive + (channels - alive) * rho)
        if q >= channels:  # there is no 0-th smallest
            return np.ones(channels, bool), channels
        threshold = np.sort(scores)[channels - q - 1]
        kept = scores > threshold
        tied = np.flatnonzero(scores == threshold)
        kept[tied[0] if rng is None else rng.choice(tied)] = True
        k = int(kept.sum())
        wide = min(channels, -(-k // align) * align)
        rest = np.argsort(np.where(kept, np.inf, scores))[::-1][k:wide]
        kept[rest] = True
        return kept, k
    kept[np.argsort(-scores, kind="stable")[:wide]] = True
    return kept, k
