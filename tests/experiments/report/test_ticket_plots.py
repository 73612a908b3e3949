import numpy as np
import pytest
from matplotlib.container import BarContainer

from experiments.report import (
    AccuracyCurve,
    accuracy_against_flops,
    arm_styles,
    figure_svg,
    kept_widths,
)

LAYERS, TOTAL = ["stem", "head"], [10, 20]
KEPT = {"worm": [[5, 10], [7, 20]], "dense": [[10, 20]]}


def bars(axes):
    return [
        [bar.get_height() for bar in container]
        for container in axes.containers
        if isinstance(container, BarContainer)
    ]


def test_bars_show_the_mean_fraction_over_the_whole_layer():
    styles = arm_styles(["dense", "worm"])
    figure = kept_widths(LAYERS, TOTAL, KEPT, styles=styles)
    worm, dense = figure.axes
    whole, kept = bars(worm)
    assert whole == [1.0, 1.0]
    assert kept == pytest.approx([0.6, 0.75])
    assert bars(dense)[1] == [1.0, 1.0]
    assert worm.get_title(loc="left") == "worm: 21 of 30 channels"
    assert [text.get_text() for text in worm.texts] == ["6", "15"]
    assert [label.get_text() for label in dense.get_xticklabels()] == ["stem (10)", "head (20)"]
    assert worm.patches[-1].get_facecolor() != dense.patches[-1].get_facecolor()


def test_whiskers_reach_from_the_least_to_the_greatest_seed():
    worm, dense = kept_widths(LAYERS, TOTAL, KEPT).axes
    (segments,) = {tuple(tuple(map(tuple, s)) for s in c.get_segments()) for c in worm.collections}
    np.testing.assert_allclose(segments, [[[0, 0.5], [0, 0.7]], [[1, 0.5], [1, 1.0]]])
    assert len(dense.collections) == 0  # one seed has no spread


def test_many_layers_go_in_one_column_without_counts():
    layers = [f"block{i}/bn" for i in range(30)]
    figure = kept_widths(layers, [8] * 30, {"a": np.full((2, 30), 4), "b": np.full((2, 30), 2)})
    first, second = figure.axes
    assert first.get_position().y0 > second.get_position().y0
    assert len(first.texts) == 0
    assert len(second.get_xticklabels()) == 30
    figure_svg(figure)


def test_mean_curve_interpolates_each_seed_and_stays_where_all_have_values():
    curve = AccuracyCurve([[0.0, 10.0, 20.0], [5.0, 15.0]], [[0.0, 0.5, 1.0], [0.5, 1.0]])
    figure = accuracy_against_flops({"worm": curve}, target=0.9, ylabel="validation accuracy")
    whole, close = figure.axes
    for axes in (whole, close):
        mean = next(line for line in axes.lines if line.get_label() == "worm")
        # at 5: (0.25 + 0.5) / 2; at 10: (0.5 + 0.75) / 2; at 15: (0.75 + 1) / 2
        np.testing.assert_allclose(mean.get_xydata(), [[5, 0.375], [10, 0.625], [15, 0.875]])
        assert [0.9, 0.9] in [list(line.get_ydata()) for line in axes.lines]
    seeds = [line.get_xydata().tolist() for line in whole.lines if line.get_alpha() == 0.25]
    assert seeds == [[[0, 0], [10, 0.5], [20, 1]], [[5, 0.5], [15, 1]]]
    assert whole.get_ylabel() == "validation accuracy"
    assert "target 90.0%" in [text.get_text() for text in whole.texts]


def test_the_mean_is_broken_between_the_first_pruning_and_the_last():
    curve = AccuracyCurve(
        [[0, 1, 1, 2, 3, 4], [0, 1, 2, 3, 3, 4]],
        [[0.0, 0.8, 0.2, 0.4, 0.6, 0.8], [0.0, 0.8, 0.9, 1.0, 0.2, 0.4]],
    )
    mean = next(
        line
        for line in accuracy_against_flops({"worm": curve}).axes[0].lines
        if line.get_label() == "worm"
    )
    np.testing.assert_allclose(
        mean.get_xydata(), [[0, 0.0], [1, np.nan], [2, np.nan], [3, 0.4], [4, 0.6]]
    )


@pytest.mark.parametrize(
    ("largest", "unit"), [(0.0, "[FLOP]"), (999.0, "[FLOP]"), (2e9, "[GFLOP]"), (3e15, "[PFLOP]")]
)
def test_the_axis_names_a_unit_that_suits_the_largest_value(largest, unit):
    figure = accuracy_against_flops({"worm": AccuracyCurve([[0.0, largest]], [[0.1, 0.9]])})
    assert figure.axes[0].get_xlabel().endswith(unit)


def test_ticks_are_in_that_unit():
    figure = accuracy_against_flops({"worm": AccuracyCurve([[0.0, 2e9]], [[0.1, 0.9]])})
    figure_svg(figure)
    labels = {text.get_text() for text in figure.axes[0].get_xticklabels()}
    assert {"0", "1", "2"} <= labels


def test_the_close_up_holds_every_seeds_end():
    curves = {
        "a": AccuracyCurve([[0, 1, 2]] * 2, [[0.1, 0.9, 0.95], [0.1, 0.9, 0.97]]),
        "b": AccuracyCurve([[0, 1, 2]], [[0.1, 0.5, 0.93]]),
    }
    low, high = accuracy_against_flops(curves).axes[1].get_ylim()
    assert 0.85 < low < 0.93
    assert 0.97 < high <= 1.0


def test_wrong_input_names_the_arm():
    with pytest.raises(ValueError, match=r"worm: kept channels of shape \(1, 3\) and 2 widths"):
        kept_widths(LAYERS, TOTAL, {"worm": [[1, 2, 3]]})
    with pytest.raises(ValueError, match="worm: layer 'head' keeps more channels than it has"):
        kept_widths(LAYERS, TOTAL, {"worm": [[1, 21]]})
    with pytest.raises(ValueError, match="no arm to draw"):
        kept_widths(LAYERS, TOTAL, {})
    with pytest.raises(ValueError, match="worm, seed 1: 2 FLOPs and 1 accuracies"):
        accuracy_against_flops({"worm": AccuracyCurve([[0], [0, 1]], [[0.1], [0.1]])})
    with pytest.raises(ValueError, match="cumulative FLOPs that never fall"):
        accuracy_against_flops({"worm": AccuracyCurve([[1, 0]], [[0.1, 0.2]])})
    with pytest.raises(ValueError, match="worm: the curve has no seed"):
        accuracy_against_flops({"worm": AccuracyCurve([], [])})
    with pytest.raises(ValueError, match="no arm to draw"):
        accuracy_against_flops({})
