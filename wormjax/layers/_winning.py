"""Whether a ticket wins."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from wormjax.layers._student import student_quantile


class Winning(NamedTuple):
    """The comparison of a ticket with the dense network.

    Attributes:
      wins: mean accuracy of the ticket plus xi is at least the dense network's; equality wins.
      difference: mean of ticket minus dense over the seeds, in the unit of the accuracies.
      low: lower end of its confidence interval; NaN for one seed.
      high: upper end.
      certain: the whole interval is on the winning side, ``low + xi >= 0``.
      xi: what was conceded.
      seeds: how many pairs.
    """

    wins: bool
    difference: float
    low: float
    high: float
    certain: bool
    xi: float
    seeds: int


def winning(
    ticket: Sequence[float],
    dense: Sequence[float],
    *,
    xi: float = 0.0,
    confidence: float = 0.95,
    force: bool = False,
) -> Winning:
    r"""Test whether a ticket is a winning one, on paired seeds.

    .. math:: \overline{\mathrm{Acc}(F')} + \xi \ge \overline{\mathrm{Acc}(F)}, \qquad \xi \ge 0

    with Student's interval of the paired differences. The paper's tables have single runs and the sign of the raw
    difference, :math:`\xi = 0`. Sums are exact: 91.5 + 0.5 is 92.

    Args:
      ticket: accuracy of the ticket, one a seed.
      dense: accuracy of the dense network with the same seeds, in the same unit and order.
      xi: what may be lost, in that unit.
      confidence: of the interval.
      force: judge a single seed; its interval is NaN and nothing is certain.

    Returns:
      A `Winning`.

    Raises:
      ValueError: other numbers of seeds, one seed without ``force``, a negative ``xi``, an accuracy that is no number.

    Example:
      >>> from wormjax import layers
      >>> result = layers.winning([0.92, 0.91, 0.93], [0.92, 0.92, 0.92])
      >>> result.wins, result.certain, round(result.low, 4)
      (True, False, -0.0248)

    References:
      Jordao et al., `When Layers Play the Lottery, all Tickets Win at Initialization
      <https://arxiv.org/abs/2301.10835>`_, 2023
    """
    if len(ticket) != len(dense):
        raise ValueError(
            f"winning got {len(ticket)} accuracies of the ticket and {len(dense)} of the dense network. Pass one pair "
            "a seed."
        )
    n = len(ticket)
    if n < 2 and not (n and force):
        raise ValueError(
            f"winning got {n} seed{'s' if n != 1 else ''}, and from one run nobody can tell an effect from noise. Run "
            "more seeds, or pass force=True."
        )
    if not xi >= 0:
        raise ValueError(f"xi={xi} must not be negative: it is what the ticket may lose.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must lie in (0, 1).")
    if not all(math.isfinite(float(x)) for x in (*ticket, *dense)):
        raise ValueError("An accuracy is NaN or infinite: a run that failed is no pair.")
    pairs = [_exact(a) - _exact(b) for a, b in zip(ticket, dense, strict=True)]
    mean = sum(pairs, Fraction(0)) / n
    low = high = math.nan
    if n > 1:
        variance = sum(((d - mean) ** 2 for d in pairs), Fraction(0)) / (n - 1)
        half = student_quantile((1 + confidence) / 2, n - 1) * math.sqrt(variance / n)
        low, high = float(mean) - half, float(mean) + half
    return Winning(mean + _exact(xi) >= 0, float(mean), low, high, low + xi >= 0, xi, n)


def _exact(x: float) -> Fraction:
    """A number as it is written."""
    return Fraction(str(float(x)))
