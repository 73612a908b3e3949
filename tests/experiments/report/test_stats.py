import math

import numpy as np
import pytest
from scipy import stats

from experiments.report import Censored, paired, summary
from experiments.report._stats import scaled


def test_mean_and_sample_deviation_of_known_numbers():
    result = summary([2.0, 4.0, 9.0])
    assert result.mean == 5.0
    assert result.sd == pytest.approx(math.sqrt(13.0))  # (9 + 1 + 16) / 2
    assert result.n == 3
    assert result.text(".1f") == "5.0 ± 3.6"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([2, 3, Censored(12)], "2.5 ± 0.7 (1 of 3 > 12)"),
        ([2, Censored(12), Censored(12)], "2.0 (2 of 3 > 12)"),
        ([Censored(12), Censored(12)], "2 of 2 > 12"),
        ([2, Censored(12), Censored(20)], "2.0 (1 of 3 > 12, 1 of 3 > 20)"),
        ([2, None, 4], "3.0 ± 1.4 (1 of 3 missing)"),
        ([2, float("nan"), float("inf")], "2.0 (2 of 3 missing)"),
        ([2, Censored(12), None], "2.0 (1 of 3 > 12, 1 of 3 missing)"),
        ([Censored(12.25)], "1 of 1 > 12.2"),
        ([3], "3.0"),
        ([], "–"),
    ],
)
def test_censored_and_missing_values_are_counted_and_never_averaged(values, text):
    assert summary(values).text(".1f") == text


def test_lines_put_the_remarks_below():
    assert summary([2, 3, Censored(12)]).lines(".1f") == ("2.5 ± 0.7", "1 of 3 > 12")
    assert summary([2, 3]).lines(".1f") == ("2.5 ± 0.7",)
    assert summary([]).lines() == ("–",)


def test_a_summary_keeps_every_seed_in_its_record():
    record = summary([np.float32(2.0), Censored(12), None]).record()
    assert record == {"mean": 2.0, "sd": None, "n": 1, "seeds": [2.0, {"above": 12}, None]}


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_interval_is_that_of_scipys_paired_t_test(n, level):
    rng = np.random.default_rng(n)
    arm, reference = rng.normal(3.0, 1.0, n), rng.normal(2.5, 2.0, n)
    result = paired(list(arm), list(reference), level)
    low, high = stats.ttest_rel(arm, reference).confidence_interval(level)
    assert result.low == pytest.approx(low, rel=1e-10)
    assert result.high == pytest.approx(high, rel=1e-10)
    assert result.mean == pytest.approx(np.mean(arm) - np.mean(reference))


def test_the_interval_by_hand():
    # differences 1, 2, 3: mean 2, sd 1, t(2, .975) = 4.302653, half width 4.302653 / sqrt(3)
    result = paired([3.0, 5.0, 7.0], [2.0, 3.0, 4.0])
    assert result.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert result.text(".2f") == "+2.00 [-0.48, +4.48]"


def test_one_pair_gives_no_interval():
    result = paired([3.0], [2.5])
    assert (result.mean, result.sd, result.low, result.high) == (0.5, None, None, None)
    assert result.text(".1f") == "+0.5"


@pytest.mark.parametrize("hole", [Censored(12), None, float("nan")])
def test_incomplete_pairs_give_no_interval(hole):
    for arm, reference in (
        ([4.0, 5.0, hole], [3.0, 3.0, 3.0]),
        ([3.0, 3.0, 3.0], [2.0, 1.0, hole]),
    ):
        result = paired(arm, reference)
        assert result.differences == (1.0, 2.0, None)
        assert (result.low, result.high) == (None, None)
        assert result.text(".1f") == "+1.5 (2 of 3 pairs)"
        assert result.record()["interval"] is None


def test_no_complete_pair_at_all():
    assert paired([Censored(12)], [3.0]).text() == "0 of 1 pairs"


def test_equal_differences_give_an_interval_of_no_width():
    assert paired([2.0, 3.0], [1.0, 2.0]).text(".1f") == "+1.0 [+1.0, +1.0]"


def test_scaling_carries_the_cap_along():
    assert scaled(0.25, 100) == 25.0
    assert scaled(Censored(2), 60) == Censored(120)
    assert scaled(None, 60) is None


def test_wrong_input_is_a_sentence():
    with pytest.raises(ValueError, match=r"3 values and its reference 2: .* put None for a seed"):
        paired([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"level=95 is no coverage; give one inside \(0, 1\)"):
        paired([1.0], [1.0], level=95)
    with pytest.raises(TypeError, match=r"value 1 is '> 12', a str: .* Censored\(cap\) or None"):
        summary([1.0, "> 12"])
    with pytest.raises(TypeError, match=r"value 0 is .* a ndarray"):
        paired([np.zeros(2)], [1.0])
