"""Time functions in turn, so that a ratio of two of them outlives a busy machine."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

Clock = Callable[[], float]


@dataclasses.dataclass(frozen=True)
class Ratio:
    """What one thing costs over another.

    Attributes:
      median: of the ratios, one a round.
      low: the smallest of them.
      high: the largest.
      interval: holds the median of ever more rounds with 95% confidence (see `median_interval`).
      rounds: how many there are.
    """

    median: float
    low: float
    high: float
    interval: tuple[float, float]
    rounds: int

    @classmethod
    def of(cls, ratios: Sequence[float]) -> "Ratio":
        """Summarise ratios; a single one stands for itself."""
        return cls(
            statistics.median(ratios),
            min(ratios),
            max(ratios),
            median_interval(ratios),
            len(ratios),
        )


@dataclasses.dataclass(frozen=True)
class Samples:
    """Seconds of every contender in every round.

    Attributes:
      seconds: by contender, one number a round; position i of all of them is one round.
    """

    seconds: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """Return the median time of a contender, in seconds."""
        return statistics.median(self.seconds[name])

    def ratio(self, over: str, under: str) -> Ratio:
        """Return what ``over`` costs in units of ``under``, paired round by round."""
        pairs = zip(self.seconds[over], self.seconds[under], strict=True)
        return Ratio.of([a / b for a, b in pairs])


def interleave(
    contenders: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    warmup: int = 1,
    budget: float = math.inf,
    clock: Clock = time.perf_counter,
) -> Samples:
    """Call every contender once a round, in turn, and wait for its result each time.

    The order turns round from one round to the next (A B, B A, A B, ...), so that neither a machine
    that slows down nor the caches left by the one before favour anybody.

    Args:
      contenders: by name, functions without arguments. What they return is waited for with
        `jax.block_until_ready`; compile before (`compiled`).
      rounds: how often each is timed.
      warmup: rounds before those, not timed.
      budget: seconds after which no new round begins, warm-up included; two are always taken.
      clock: what tells the time, in seconds.

    Returns:
      `Samples`.

    Raises:
      ValueError: no contender, or fewer than one round.

    Example:
      >>> samples = interleave({"a": lambda: 1, "b": lambda: 2}, rounds=3)
      >>> samples.ratio("a", "b").rounds
      3
    """
    if not contenders or rounds < 1:
        raise ValueError(
            f"interleave got {len(contenders)} contenders and rounds={rounds}. Give at least one of each."
        )
    begin = clock()
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for done in range(-warmup, rounds):
        if done >= 2 and clock() - begin > budget:
            break
        for name in names if done % 2 == 0 else reversed(names):
            start = clock()
            jax.block_until_ready(contenders[name]())
            elapsed = clock() - start
            if done >= 0:
                seconds[name].append(elapsed)
    return Samples(seconds)


def compiled(
    function: Callable, *args: Any, donate: tuple[int, ...] = (), clock: Clock = time.perf_counter
) -> tuple[jax.stages.Compiled, float]:
    """Compile ahead of time, so that no compilation hides in a measurement.

    Args:
      function: what `jax.jit` takes.
      *args: arrays, or `jax.ShapeDtypeStruct`.
      donate: positions of arguments whose buffers the program may reuse.
      clock: what tells the time, in seconds.

    Returns:
      The executable, and the seconds that tracing and compiling took.

    Example:
      >>> import jax.numpy as jnp
      >>> double, seconds = compiled(lambda x: x * 2, jnp.ones(2))
      >>> print(double(jnp.ones(2)), seconds > 0)
      [2. 2.] True
    """
    start = clock()
    executable = jax.jit(function, donate_argnums=donate).lower(*args).compile()
    return executable, clock() - start


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    r"""Return the order statistics between which the true median lies.

    Each value falls below the median with probability 1/2, whatever the distribution, so
    :math:`[x_{(j)}, x_{(n+1-j)}]` misses it with probability
    :math:`2 \cdot 2^{-n} \sum_{i<j} \binom{n}{i}`. The largest j that keeps to ``confidence`` is taken; with
    too few values for any (below six), their whole range.

    Args:
      values: at least one.
      confidence: between 0 and 1.

    Example:
      >>> median_interval(list(range(1, 11)))
      (2, 9)
    """
    ordered, n = sorted(values), len(values)
    j = 1
    while j < n // 2 and 2 * sum(math.comb(n, i) for i in range(j + 1)) <= (1 - confidence) * 2**n:
        j += 1
    return ordered[j - 1], ordered[n - j]
