import numpy as np
import pytest
from scipy.stats import friedmanchisquare

from experiments.report import Ranks, critical_difference, friedman
from experiments.report._rank_plots import cliques


def test_friedman_agrees_with_scipy_also_with_ties():
    random = np.random.default_rng(0)
    for levels in (None, 4):
        table = random.random((4, 12))
        if levels:
            table = np.round(table * levels)
        names = ["a", "b", "c", "d"]
        found = friedman(dict(zip(names, table.tolist(), strict=True)))
        statistic, p = friedmanchisquare(*table)
        assert found.statistic == pytest.approx(statistic)
        assert found.p_value == pytest.approx(p)
        assert found.blocks == 12
        assert sum(found.mean_ranks) == pytest.approx(4 * 5 / 2)
        assert list(found.mean_ranks) == sorted(found.mean_ranks)


def test_the_critical_difference_of_demsars_example():
    # four classifiers on 14 data sets: q = 2.569, CD = 1.25 at 5%
    random = np.random.default_rng(1)
    found = friedman({name: random.random(14).tolist() for name in "abcd"})
    assert found.critical_distance == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    assert found.critical_distance == pytest.approx(1.25, abs=0.01)


def test_equal_methods_are_not_told_apart():
    found = friedman({"a": [1.0, 2.0], "b": [1.0, 2.0]})
    assert (found.statistic, found.p_value) == (0.0, 1.0)
    assert found.mean_ranks == (1.5, 1.5)


def test_bars_join_what_is_near():
    ranks = Ranks(("a", "b", "c", "d"), (1.0, 1.8, 2.6, 4.0), 9, 9.0, 0.01, 1.0, 0.95)
    assert cliques(ranks) == [(0, 1), (1, 2)]
    figure = critical_difference(ranks)
    texts = {t.get_text().strip() for t in figure.axes[0].texts}
    assert {"a (1.00)", "d (4.00)", "4"} <= texts
    assert "9 settings" in figure.axes[0].get_title(loc="left")


def test_wrong_input_gets_its_sentence():
    with pytest.raises(ValueError, match="two methods or more"):
        friedman({"a": [1.0, 2.0]})
    with pytest.raises(ValueError, match="as many values each"):
        friedman({"a": [1.0, 2.0], "b": [1.0]})
    with pytest.raises(ValueError, match="is not finite"):
        friedman({"a": [1.0, 2.0], "b": [1.0, float("nan")]})
