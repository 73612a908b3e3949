import pytest

from experiments.report import arm_styles, robustness_bars


def test_a_bar_is_the_mean_and_its_whisker_reaches_from_least_to_greatest():
    figure = robustness_bars({"dense": {"clean": [0.5, 0.9], "noise": [0.25, 0.25]}})
    [axes] = figure.axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([0.7, 0.25])
    [whiskers] = axes.collections
    ends = [segment[:, 1].tolist() for segment in whiskers.get_segments()]
    assert ends == [pytest.approx([0.5, 0.9]), pytest.approx([0.25, 0.25])]


def test_no_two_arms_have_the_same_bars():
    arms = [f"arm {i}" for i in range(12)]
    figure = robustness_bars({arm: {"clean": [0.5]} for arm in arms})
    looks = {(bar.get_facecolor(), bar.get_hatch()) for bar in figure.axes[0].patches}
    assert len(looks) == len(arms)
    assert [style.hatch for style in arm_styles(arms).values()] == [None] * 8 + ["///"] * 4


def test_arms_under_other_disturbances_are_refused():
    with pytest.raises(ValueError, match="the same disturbances"):
        robustness_bars({"a": {"clean": [0.5]}, "b": {"noise": [0.5]}})
