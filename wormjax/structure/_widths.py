"""Which width a group gets when a certain one is wanted.

Widths are told as *stairs*: entry w of an integer array is the width that a group of ``len(array) - 1`` units gets
where w are wanted. It is never below w, and never beyond the group.
"""

import numpy as np
from jaxtyping import Float, Int

NOISE = 0.05  # times closer than this are the same time


def by_step(size: int, step: int) -> Int[np.ndarray, " widths"]:
    """Return the stairs of a group that keeps a multiple of ``step``, or everything.

    Example:
      >>> by_step(6, 4)
      array([0, 4, 4, 4, 4, 6, 6])
    """
    wanted = np.arange(size + 1)
    return np.minimum(-(-wanted // step) * step, size)


def by_time(times: Float[np.ndarray, " widths"]) -> Int[np.ndarray, " widths"]:
    """Return the stairs that lead to the cheapest width at or above the wanted one.

    Of widths within 5% of the least time the narrowest is taken: a clock does not tell them apart.

    Args:
      times: what each width would cost.

    Example:
      >>> by_time(np.array([0.0, 2.0, 1.5, 4.0, 3.0]))
      array([0, 2, 2, 4, 4])
    """
    least = np.minimum.accumulate(times[::-1])[::-1]  # at or above each width
    here = np.where(times <= (1 + NOISE) * least, np.arange(len(times)), len(times) - 1)
    return np.minimum.accumulate(here[::-1])[::-1]


def at_least(stairs: Int[np.ndarray, " n"], minimum: int) -> Int[np.ndarray, " n"]:
    """Return the stairs of a group that keeps ``minimum`` units, or all where it has no more."""
    return stairs[np.maximum(np.arange(len(stairs)), min(minimum, len(stairs) - 1))]
