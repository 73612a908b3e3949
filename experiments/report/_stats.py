"""What several seeds say: mean, spread, and the paired difference of two arms.

Two kinds of value are no number and are never averaged away in silence. A *censored* value is known
only to lie above a cap (the target was not reached within 12 epochs); a *missing* one was not
measured, or was not finite. Both are counted in the text beside the mean.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit


@dataclasses.dataclass(frozen=True)
class Censored:
    """A value known only to be larger than ``above``.

    Example:
      >>> str(Censored(12))
      '> 12'
    """

    above: float

    def __str__(self) -> str:
        return f"> {self.above:g}"


Value = float | Censored | None


@dataclasses.dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation of the values that are numbers.

    Attributes:
      values: one entry per seed, as measured.
      mean: mean over the finite numbers; None where there is none.
      sd: sample standard deviation (divisor n - 1); None below two numbers.
      n: how many values are finite numbers.
    """

    values: tuple[Value, ...]
    mean: float | None
    sd: float | None
    n: int

    def text(self, spec: str = ".3g") -> str:
        """Return ``"2.3 ± 0.6 (1 of 3 > 12)"``; ``spec`` formats the numbers."""
        return _join(self._body(spec), self._remarks(spec))

    def lines(self, spec: str = ".3g") -> tuple[str, ...]:
        """Return the same as ``text``, the remarks on a line of their own."""
        return tuple(filter(None, (self._body(spec), ", ".join(self._remarks(spec))))) or ("–",)

    def record(self) -> dict[str, Any]:
        """Return plain values for ``summary.json``: a censored seed becomes ``{"above": cap}``."""
        return {"mean": self.mean, "sd": self.sd, "n": self.n, "seeds": _plain(self.values)}

    def _body(self, spec: str) -> str:
        if self.mean is None:
            return ""
        mean = format(self.mean, spec)
        return mean if self.sd is None else f"{mean} ± {format(self.sd, spec)}"

    def _remarks(self, spec: str) -> list[str]:
        total = len(self.values)
        caps = Counter(value.above for value in self.values if isinstance(value, Censored))
        remarks = [f"{count} of {total} > {_cap(cap, spec)}" for cap, count in sorted(caps.items())]
        missing = total - self.n - caps.total()
        return [*remarks, f"{missing} of {total} missing"] if missing else remarks


@dataclasses.dataclass(frozen=True)
class Paired:
    """Mean difference of an arm to a reference over the same seeds, with its t interval.

    Attributes:
      differences: arm minus reference for each seed; None where either is censored or missing.
      mean: mean over the complete pairs; None where there is none.
      sd: sample standard deviation of the differences; None below two complete pairs.
      low: lower end of the interval; None where no interval is given.
      high: upper end of the interval; None where no interval is given.
      level: the interval's coverage.
    """

    differences: tuple[float | None, ...]
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    level: float

    def text(self, spec: str = ".3g") -> str:
        """Return ``"+0.31 [-0.20, +0.82]"``; ``spec`` formats the numbers."""
        total = len(self.differences)
        complete = sum(difference is not None for difference in self.differences)
        body = "" if self.mean is None else format(self.mean, f"+{spec}")
        if self.low is not None and self.high is not None:
            body += f" [{format(self.low, f'+{spec}')}, {format(self.high, f'+{spec}')}]"
        return _join(body, [f"{complete} of {total} pairs"] if complete < total else [])

    def record(self) -> dict[str, Any]:
        """Return plain values for ``summary.json``."""
        return {
            "mean": self.mean,
            "sd": self.sd,
            "interval": None if self.low is None else [self.low, self.high],
            "level": self.level,
            "seeds": list(self.differences),
        }


def summary(values: Sequence[Value]) -> Summary:
    r"""Mean and sample standard deviation over seeds.

    .. math::
        \bar x = \frac1n \sum_i x_i, \qquad s = \sqrt{\frac{1}{n-1} \sum_i (x_i - \bar x)^2}

    Censored and missing values do not enter the sums: the mean is that of the seeds that have a
    number, so it is too low where others are censored, and the text always says how many are.

    Args:
      values: one per seed; a number, ``Censored(cap)`` or None (not measured). NaN and infinities
        count as missing.

    Returns:
      A ``Summary``.

    Raises:
      TypeError: a value is something else; the message names its place.

    Example:
      >>> summary([2.0, 3.0, Censored(12)]).text(".1f")
      '2.5 ± 0.7 (1 of 3 > 12)'
    """
    values = tuple(_checked(value, place) for place, value in enumerate(values))
    numbers = [number for number in map(_number, values) if number is not None]
    return Summary(values, *_mean_and_sd(numbers), len(numbers))


def paired(values: Sequence[Value], reference: Sequence[Value], level: float = 0.95) -> Paired:
    r"""Paired difference of an arm to a reference, seed by seed, with its t interval.

    .. math::
        \bar d \pm t_{n-1,\,(1+\text{level})/2} \, \frac{s_d}{\sqrt n}, \qquad d_i = x_i - r_i

    No interval is given below two pairs, nor where a pair is incomplete (censored or missing on
    either side): the seeds that are left were selected by their outcome, and an interval over them
    would claim more than was measured.

    Args:
      values: the arm's values, one per seed.
      reference: the reference's values for the same seeds in the same order.
      level: coverage of the interval, in (0, 1). It is not corrected for several comparisons.

    Returns:
      A ``Paired``.

    Raises:
      ValueError: the lengths differ, or ``level`` is outside (0, 1).
      TypeError: a value is neither a number, ``Censored`` nor None.

    Example:
      >>> paired([3.0, 5.0, 7.0], [2.0, 3.0, 4.0]).text(".2f")
      '+2.00 [-0.48, +4.48]'
    """
    if len(values) != len(reference):
        raise ValueError(
            f"the arm has {len(values)} values and its reference {len(reference)}: a paired "
            "difference needs the same seeds in the same order; put None for a seed that failed."
        )
    if not 0 < level < 1:
        raise ValueError(f"level={level} is no coverage; give one inside (0, 1), such as 0.95.")
    differences = tuple(
        _difference(_checked(value, place), _checked(other, place))
        for place, (value, other) in enumerate(zip(values, reference, strict=True))
    )
    numbers = [difference for difference in differences if difference is not None]
    mean, sd = _mean_and_sd(numbers)
    if mean is None or sd is None or len(numbers) < len(differences):
        return Paired(differences, mean, sd, None, None, level)
    n = len(numbers)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * sd / math.sqrt(n)
    return Paired(differences, mean, sd, mean - half, mean + half, level)


def scaled(value: Value, factor: float) -> Value:
    """Return ``value`` in another unit; a cap is scaled with it.

    Example:
      >>> scaled(0.5, 100), scaled(Censored(2), 60), scaled(None, 60)
      (50.0, Censored(above=120), None)
    """
    if value is None:
        return None
    return Censored(value.above * factor) if isinstance(value, Censored) else value * factor


def numbers(values: Sequence[Value]) -> list[float]:
    """Return those values that are numbers, neither censored nor missing.

    Example:
      >>> numbers([0.5, None, 1, Censored(12)])
      [0.5, 1.0]
    """
    return [float(value) for value in values if isinstance(value, int | float)]


def _checked(value: Any, place: int) -> Value:
    """Return ``value`` as a Python float, ``Censored`` or None."""
    if value is None or isinstance(value, Censored):
        return value
    if isinstance(value, str) or np.ndim(value) != 0:
        raise TypeError(
            f"value {place} is {value!r}, a {type(value).__name__}: a measured value is a number, "
            "Censored(cap) or None; convert it where it is measured."
        )
    return float(value)


def _number(value: Value) -> float | None:
    if value is None or isinstance(value, Censored) or not math.isfinite(value):
        return None
    return value


def _difference(value: Value, other: Value) -> float | None:
    left, right = _number(value), _number(other)
    return None if left is None or right is None else left - right


def _mean_and_sd(numbers: Sequence[float]) -> tuple[float | None, float | None]:
    mean = float(np.mean(numbers)) if numbers else None
    return mean, float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None


def _plain(values: Sequence[Value]) -> list[Any]:
    return [{"above": v.above} if isinstance(v, Censored) else v for v in values]


def _cap(cap: float, spec: str) -> str:
    # A cap is usually a whole number of epochs, also where means are shown with decimals.
    return f"{cap:g}" if float(cap).is_integer() and abs(cap) < 1e6 else format(cap, spec)


def _join(body: str, remarks: Sequence[str]) -> str:
    if not remarks:
        return body or "–"
    return f"{body} ({', '.join(remarks)})" if body else ", ".join(remarks)
