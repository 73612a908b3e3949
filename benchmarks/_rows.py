"""One line of a benchmark's table: a ratio, its target and a verdict."""

import dataclasses

from benchmarks._timing import Ratio, Samples

HEAD = ("ratio", "median", "min-max", "95% of median", "rounds", "seconds", "target", "holds")


@dataclasses.dataclass(frozen=True)
class Row:
    """One ratio.

    Attributes:
      name: what is compared, "this / that".
      ratio: this over that.
      target: the bound that the ratio is to keep, or None where it only informs.
      at_least: whether the target is a lower bound.
      seconds: median times of this and that, or None where the ratio is not one of times.
    """

    name: str
    ratio: Ratio
    target: float | None = None
    at_least: bool = False
    seconds: tuple[float, float] | None = None

    @classmethod
    def timed(
        cls,
        name: str,
        samples: Samples,
        over: str,
        under: str,
        target: float | None = None,
        at_least: bool = False,
    ) -> "Row":
        """Make the row of two contenders that were timed in turn."""
        times = (samples.median(over), samples.median(under))
        return cls(name, samples.ratio(over, under), target, at_least, times)

    @classmethod
    def counted(cls, name: str, over: float, under: float, target: float | None = None) -> "Row":
        """Make the row of two numbers that no clock was needed for, such as bytes."""
        return cls(name, Ratio.of([over / under]), target)

    @property
    def holds(self) -> bool | None:
        """Whether the median keeps the target; None without a target."""
        if self.target is None:
            return None
        median = self.ratio.median
        return median >= self.target if self.at_least else median <= self.target

    @property
    def decided(self) -> bool:
        """Whether the noise of a clock leaves no doubt: the interval lies on one side of the target."""
        low, high = self.ratio.interval
        return self.target is None or self.seconds is None or not low <= self.target <= high

    @property
    def verdict(self) -> str:
        """``yes`` or ``no``; with a question mark where the noise could have decided it."""
        if self.holds is None:
            return ""
        return ("yes" if self.holds else "no") + ("" if self.decided else "?")

    def cells(self) -> tuple[str, ...]:
        """Return what the table shows below `HEAD`."""
        ratio, clock = self.ratio, self.seconds is not None
        bound = ">=" if self.at_least else "<="
        return (
            self.name,
            number(ratio.median),
            f"{number(ratio.low)}-{number(ratio.high)}" if clock else "",
            "-".join(map(number, ratio.interval)) if clock else "",
            str(ratio.rounds) if clock else "",
            " / ".join(map(duration, self.seconds or ())),
            "" if self.target is None else f"{bound} {number(self.target)}",
            self.verdict,
        )


def number(value: float) -> str:
    """Write three decimals around one, three figures elsewhere."""
    return f"{value:.3f}" if 0.1 <= value < 10 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Write seconds, or milliseconds below one."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
