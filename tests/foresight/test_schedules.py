"""Schedules and exact counts against the specification's numbers."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wormjax import foresight
from wormjax.foresight._schedules import SCHEDULES, kept_counts


def test_two_and_four_rounds():  # specs, foresight 6.3
    expected = {"exponential": [0.5, 0.25], "linear": [0.625, 0.25], "expinv": [0.4375, 0.25]}
    for schedule, values in expected.items():
        assert [float(d) for d in foresight.densities(schedule, 0.25, 2)] == values
    four = [float(d) for d in foresight.densities("expinv", 0.1, 4)]
    np.testing.assert_allclose(four, [0.3439, 0.19, 0.131060, 0.1], atol=1e-6)
    assert foresight.densities("one_shot", "0.3", 1) == [Fraction(3, 10)]


def test_a_hundred_and_twenty_rounds():
    hundred = foresight.densities("exponential", foresight.level(18), 100)
    for r, value in ((1, 0.960630), (2, 0.922810), (50, 0.134218)):
        assert float(hundred[r - 1]) == pytest.approx(value, abs=1e-6)
    assert float(foresight.densities("exponential", 0.8**18, 20)[0]) == pytest.approx(
        0.818052, abs=1e-6
    )
    [*_] = counts = kept_counts(hundred, [270_896])[:, 0].tolist()
    assert (counts[0], counts[1], counts[49], counts[-1]) == (260231, 249986, 36360, 4881)


def test_counts_of_the_networks():  # specs, foresight 6.4
    grid = {2: 173374, 4: 110960, 6: 71014, 8: 45449, 10: 29088, 12: 18616, 14: 11915, 16: 7626}
    for c, kept in (grid | {18: 4881}).items():
        assert kept_counts([foresight.level(c)], [270_896]).item() == kept
        assert kept_counts([Fraction(str(0.8**c))], [270_896]).item() == kept
    for size, at_level, at_decimal in (
        (270_896, 4_881, 4_877),
        (14_761_664, 265_923, 265_710),
        (11_261_632, 202_872, 202_710),
        (25_502_912, 459_420, 459_053),
    ):
        counts = kept_counts([foresight.level(18), Fraction("0.018")], [size])[:, 0]
        assert counts.tolist() == [at_level, at_decimal]


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([s for s in SCHEDULES if s != "one_shot"]),
    st.fractions(Fraction(1, 1000), 1),
    st.integers(1, 30),
)
def test_every_schedule_falls_to_the_density(schedule, density, rounds):
    falling = foresight.densities(schedule, density, rounds)
    assert len(falling) == rounds
    assert falling[-1] == density
    assert all(a >= b - Fraction(1, 10**12) for a, b in itertools.pairwise(falling))
    assert all(0 < d <= 1 for d in falling)


@pytest.mark.parametrize("density", [0, -0.1, 1.5, "2"])
def test_a_density_outside_its_range_is_refused(density):
    with pytest.raises(ValueError, match=r"density must lie in \(0, 1\]"):
        foresight.densities("exponential", density, 3)


def test_wrong_rounds_and_schedules_are_refused():
    with pytest.raises(ValueError, match="rounds is 0"):
        foresight.densities("linear", 0.5, 0)
    with pytest.raises(ValueError, match="'one_shot' is one round"):
        foresight.densities("one_shot", 0.5, 2)
