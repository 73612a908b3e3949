"""How the density falls from round to round, in exact counts."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from wormjax._counts import as_density, as_fraction
from wormjax._selection import check_choice

Schedule = Literal["exponential", "linear", "expinv", "one_shot"]
SCHEDULES = ("exponential", "linear", "expinv", "one_shot")


def densities(schedule: Schedule, density: Any, rounds: int) -> list[Fraction]:
    r"""Return the density after each round.

    .. math::
        d_r = d^{r/R} \ (\text{exponential}), \qquad
        1 - (1 - d) \frac{r}{R} \ (\text{linear}), \qquad
        1 - (1 - d)^{R/r} \ (\text{expinv})

    Args:
      schedule: the formula; ``"one_shot"`` is a single round.
      density: d, in (0, 1].
      rounds: R.

    Returns:
      R fractions; the last is the density itself, exactly.

    Raises:
      ValueError: a density outside (0, 1], fewer than one round, an unknown schedule, or several rounds in one shot.

    Example:
      >>> [float(d) for d in densities("exponential", 0.25, 2)]
      [0.5, 0.25]
      >>> [float(d) for d in densities("linear", 0.25, 2)]
      [0.625, 0.25]

    References:
      Tanaka et al., `Pruning neural networks without any data by iteratively conserving synaptic flow
      <https://arxiv.org/abs/2006.05467>`_, 2020 (exponential, linear); Wang et al., `NTK-SAP
      <https://arxiv.org/abs/2304.02840>`_, 2023 (expinv)
    """
    check_choice("schedule", schedule, SCHEDULES)
    last = as_density("density", density)
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}. Prune in at least one round.")
    if schedule == "one_shot" and rounds > 1:
        raise ValueError(
            f"schedule='one_shot' is one round, and rounds is {rounds}. Choose another schedule, or rounds=1."
        )
    d = float(last)
    falling = []
    for r in range(1, rounds):
        if schedule == "linear":
            falling.append(1 - (1 - last) * Fraction(r, rounds))
        elif schedule == "exponential":
            falling.append(as_fraction("density", d ** (r / rounds)))
        else:
            falling.append(as_fraction("density", 1 - (1 - d) ** (rounds / r)))
    return [*falling, last]


def kept_counts(falling: Sequence[Fraction], sizes: Sequence[int]) -> Int[np.ndarray, "R n"]:
    r"""Return how many of so many entries stay in each round: :math:`n - \lfloor (1 - d_r) \, n \rfloor`.

    Args:
      falling: density after each round.
      sizes: entries of each set that is ranked by itself.

    Example:
      >>> kept_counts([Fraction(1, 2), Fraction(1, 4)], [10])
      array([[5],
             [3]], dtype=int32)
    """
    return np.asarray(
        [[n - math.floor((1 - d) * n) for n in sizes] for d in falling], np.int32
    ).reshape(len(falling), len(sizes))


def level(c: int) -> Fraction:
    """Return the density after c steps that each keep 80 %: the grid of NTK-SAP and PX.

    Example:
      >>> f"{float(1 - level(18)):.2%}"
      '98.20%'
    """
    return Fraction(4, 5) ** c


def compression(c: float) -> float:
    """Return the density of a network that is compressed ``10**c`` times, as SynFlow's code has it.

    Example:
      >>> compression(2)
      0.01
    """
    return 10.0**-c
