"""The arithmetic of the paper's table, whose percentages come of kilograms rounded to two decimals."""

import pytest

from wormjax.evaluation import emissions, emissions_saved


def test_time_times_power_times_intensity_with_the_constants():
    told = emissions(hours=2, power_kw=0.25, kg_per_kwh=0.4)
    assert told.kg == pytest.approx(0.20)
    assert told.kwh == 0.5
    assert told._asdict().keys() == {"kg", "kwh", "hours", "power_kw", "kg_per_kwh"}


@pytest.mark.parametrize(
    ("dense", "ticket", "percent"),
    [
        (0.27, 0.24, 11.11),
        (0.27, 0.20, 25.93),  # the paper truncates to 25.92
        (0.27, 0.18, 33.33),
        (0.45, 0.39, 13.33),
        (0.45, 0.36, 20.00),
        (0.45, 0.34, 24.44),
        (0.45, 0.22, 51.11),
    ],
)
def test_published_improvements(dense, ticket, percent):
    assert emissions_saved(dense, ticket) == pytest.approx(percent, abs=0.01)
    assert emissions_saved(dense + 0.004, ticket - 0.004, round_kg=2) == pytest.approx(
        percent, abs=0.01
    )


def test_constants_have_no_defaults_and_wrong_ones_are_told():
    with pytest.raises(TypeError, match="power_kw"):
        emissions(hours=1, kg_per_kwh=0.4)
    with pytest.raises(ValueError, match="hours=-1 must not be negative"):
        emissions(hours=-1, power_kw=0.25, kg_per_kwh=0.4)
    with pytest.raises(ValueError, match="nothing can be saved of nothing"):
        emissions_saved(0.001, 0.0, round_kg=2)
