import numpy as np
import pytest
from scipy.stats import binom

from wormjax.evaluation import Ratio, Samples, latency
from wormjax.evaluation._latency import median_interval


class Clock:
    """A clock that stands still until somebody works."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def worker(self, seconds, log=None, name=""):
        """Return a contender that takes so long."""

        def work():
            if log is not None:
                log.append(name)
            self.now += seconds

        return work


def test_the_order_turns_round_from_round_to_round():
    clock, log = Clock(), []
    contenders = {name: clock.worker(1.0, log, name) for name in "abc"}
    latency(contenders, rounds=3, warmup=1, clock=clock)
    assert "".join(log) == "cba" + "abc" + "cba" + "abc"


def test_every_round_is_timed_and_the_warm_up_is_not():
    clock = Clock()
    pace = iter([100.0, 1.0, 2.0, 3.0])

    def slower_and_slower():
        clock.now += next(pace)

    contenders = {"a": slower_and_slower, "b": clock.worker(2.0)}
    samples = latency(contenders, rounds=3, warmup=1, clock=clock)
    assert samples.seconds == {"a": [1.0, 2.0, 3.0], "b": [2.0, 2.0, 2.0]}
    assert samples.median("a") == 2.0
    assert samples.ratio("a", "b") == Ratio(1.0, 0.5, 1.5, (0.5, 1.5), 3)


def test_the_result_is_waited_for():
    clock = Clock()

    class Pending:
        def block_until_ready(self):
            clock.now += 5.0
            return self

    contenders = {"returns at once": lambda: {"a": (Pending(),)}}
    samples = latency(contenders, rounds=2, warmup=0, clock=clock)
    assert samples.seconds == {"returns at once": [5.0, 5.0]}


@pytest.mark.parametrize(
    ("budget", "rounds"), [(0.0, 2), (29.0, 2), (30.0, 3), (40.0, 4), (1e9, 8)]
)
def test_no_round_begins_after_the_budget_but_two_are_taken(budget, rounds):
    clock = Clock()
    samples = latency({"a": clock.worker(10.0)}, rounds=8, budget=budget, clock=clock)
    assert len(samples.seconds["a"]) == rounds  # after a warm-up of 10 s


@pytest.mark.parametrize(("contenders", "rounds"), [({}, 3), ({"a": int}, 0)])
def test_nothing_to_time_is_an_error(contenders, rounds):
    with pytest.raises(ValueError, match="Give at least one of each"):
        latency(contenders, rounds=rounds)


def test_quartiles_hold_the_middle_half():
    samples = Samples({"a": [9.0, 1.0, 5.0, 3.0, 7.0], "once": [2.0]})
    low, high = np.quantile(samples.seconds["a"], [0.25, 0.75])
    assert samples.quartiles("a") == (low, high) == (3.0, 7.0)
    assert samples.quartiles("once") == (2.0, 2.0)


def test_ratios_pair_the_rounds():
    # the machine was four times slower in the second round: nothing of it is left in the ratio
    samples = Samples({"a": [2.0, 8.0, 3.0], "b": [1.0, 4.0, 1.0]})
    ratio = samples.ratio("a", "b")
    assert (ratio.median, ratio.low, ratio.high, ratio.rounds) == (2.0, 2.0, 3.0, 3)


def test_combined_sums_round_by_round():
    samples = Samples({"all": [10.0, 20.0], "a": [1.0, 2.0], "b": [3.0, 5.0]})
    samples = samples.combined("rest", {"all": 1, "a": -1, "b": -2})
    assert samples.seconds["rest"] == [3.0, 8.0]
    assert samples.seconds["all"] == [10.0, 20.0]


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_the_interval_of_the_median_is_the_shortest_that_the_binomial_allows(confidence):
    for n in range(1, 80):
        low, high = median_interval(range(1, n + 1), confidence)  # of 1 to n, values are ranks
        assert low + high == n + 1

        def missed(rank, n=n):
            """Chance that the median lies outside of the order statistics ``rank`` and n + 1 - rank."""
            return 2 * binom.cdf(rank - 1, n, 0.5)

        assert missed(low) <= 1 - confidence + 1e-12 or low == 1
        assert missed(low + 1) > 1 - confidence or low + 1 > (n + 1) / 2


def test_the_interval_does_not_ask_for_sorted_values():
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert median_interval([5.0]) == (5.0, 5.0)


def test_a_negative_warm_up_would_time_fewer_rounds():
    with pytest.raises(ValueError, match=r"warmup=-1\. Give a number of rounds, 0 for none"):
        latency({"a": int}, rounds=3, warmup=-1)
