"""Time functions in turn, so that a ratio of two of them outlives a busy machine."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

Clock = Callable[[], float]
Number = float | int


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

    median: Number
    low: Number
    high: Number
    interval: tuple[Number, Number]
    rounds: int

    @classmethod
    def of(cls, ratios: Sequence[Number]) -> "Ratio":
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

    seconds: Mapping[str, Sequence[Number]]

    def median(self, name: str) -> Number:
        """Return the median time of a contender, in seconds."""
        return statistics.median(self.seconds[name])

    def quartiles(self, name: str) -> tuple[Number, Number]:
        """Return the times between which the middle half of a contender's rounds lies, in seconds.

        Example:
          >>> Samples({"a": [1.0, 2.0, 3.0, 4.0, 9.0]}).quartiles("a")
          (2.0, 4.0)
        """
        if len(self.seconds[name]) == 1:
            return self.seconds[name][0], self.seconds[name][0]
        low, _, high = statistics.quantiles(self.seconds[name], n=4, method="inclusive")
        return low, high

    def ratio(self, over: str, under: str) -> Ratio:
        """Return what ``over`` costs in units of ``under``, paired round by round."""
        pairs = zip(self.seconds[over], self.seconds[under], strict=True)
        return Ratio.of([a / b for a, b in pairs])

    def combined(self, name: str, terms: Mapping[str, Number]) -> "Samples":
        """Add a contender that nobody ran: the weighted sum of others, round by round.

        Example:
          >>> samples = Samples({"all": [3.0, 4.0], "part": [1.0, 1.5]})
          >>> samples.combined("rest", {"all": 1, "part": -1}).seconds["rest"]
          [2.0, 2.5]
        """
        rounds = zip(*(self.seconds[term] for term in terms), strict=True)
        weights = terms.values()
        total = [sum(w * s for w, s in zip(weights, one, strict=True)) for one in rounds]
        return Samples({**self.seconds, name: total})


def latency(
    contenders: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    warmup: int = 1,
    budget: Number = math.inf,
    clock: Clock = time.perf_counter,
) -> Samples:
    """Call every contender once a round, in turn, and wait for its result each time.

    The order turns round from one round to the next (A B, B A, A B, ...), so that neither a machine
    that slows down nor the caches left by the one before favour anybody.

    A dense baseline is fair when it is one of the contenders, compiled like the others and given the
    same batch: `Samples.ratio` then pairs it with them round by round. A masked network is a dense
    one for the clock; the honest peer of a shrunk network is, beside the dense one, the same narrow
    network built from scratch.

    Args:
      contenders: by name, functions without arguments. What they return is waited for with
        `jax.block_until_ready`. Compile them before: ``jax.jit(f).lower(...).compile()``.
      rounds: how often each is timed.
      warmup: rounds before those, not timed.
      budget: seconds after which no new round begins, warm-up included; two are always taken.
      clock: what tells the time, in seconds.

    Returns:
      `Samples`.

    Raises:
      ValueError: no contender, fewer than one round, or a negative warm-up.

    Example:
      >>> import functools
      >>> import jax.numpy as jnp
      >>> from wormjax.evaluation import latency
      >>> narrow, wide = jnp.ones((8, 8)), jnp.ones((64, 64))
      >>> samples = latency({n: functools.partial(jnp.sin, x) for n, x in (("8", narrow), ("64", wide))}, rounds=3)
      >>> samples.median("64") > 0, samples.ratio("8", "64").rounds
      (True, 3)
    """
    if not contenders or rounds < 1:
        raise ValueError(
            f"latency got {len(contenders)} contenders and rounds={rounds}. Give at least one of each."
        )
    if warmup < 0:
        raise ValueError(f"latency got warmup={warmup}. Give a number of rounds, 0 for none.")
    begin = clock()
    names = list(contenders)
    seconds: dict[str, list[Number]] = {name: [] for name in names}
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


def median_interval(values: Sequence[Number], confidence: float = 0.95) -> tuple[Number, Number]:
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
