import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import LineCollection

from experiments.report import (
    DistanceTrace,
    HeatMap,
    arm_styles,
    distance_lines,
    figure_svg,
    heat_maps,
)

DISTANCES = np.array([[0.0, 0.5, 0.4], [0.5, 0.0, 0.1], [0.4, 0.1, 0.0]])
NAN = float("nan")


def stars(axes):
    return [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "*"]


def texts(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("start", [0, 1, 3])
def test_eb_d7_axes_and_marker_name_the_epoch_whatever_the_first_one_is(start):
    """The reference's heat map indexes i - 1 whatever the start epoch."""
    epochs = range(start, start + 3)
    figure = heat_maps({"worm": HeatMap(DISTANCES, epochs, start + 2)})
    axes = figure.axes[0]
    assert stars(axes) == [[[2, 2]]]
    assert f"★ ticket at epoch {start + 2}" in texts(axes)
    figure_svg(figure)  # ticks are placed when drawn
    for axis in (axes.xaxis, axes.yaxis):
        named = {
            round(t.get_position()[axis is axes.yaxis]): t.get_text() for t in axis.get_ticklabels()
        }
        assert {place: named[place] for place in range(3)} == {
            i: str(e) for i, e in enumerate(epochs)
        }


def test_a_heat_map_shows_its_matrix_from_zero_to_one():
    figure = heat_maps({"worm": HeatMap(DISTANCES, range(3))}, title="Distances", step="update")
    axes, bar = figure.axes
    (image,) = axes.images
    np.testing.assert_array_equal(image.get_array(), DISTANCES)
    assert (image.norm.vmin, image.norm.vmax) == (0.0, 1.0)
    assert bar.get_ylim() == (0.0, 1.0)
    assert "fraction of entries that differ" in bar.get_ylabel()
    assert image.origin == "lower"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("update", "update")
    assert axes.get_title(loc="left") == "worm"
    assert figure.get_suptitle() == "Distances"
    assert "no ticket" in texts(axes)
    assert stars(axes) == []
    assert {".50", ".40", ".10", ".00"} < set(texts(axes))


def test_unmeasured_cells_are_blank_and_large_maps_carry_no_numbers():
    distances = np.full((20, 20), NAN)
    distances[0, 0] = 0.0
    figure = heat_maps({"worm": HeatMap(distances, range(20))})
    assert texts(figure.axes[0]) == ["no ticket"]
    assert figure.axes[0].images[0].get_array().mask.sum() == 399
    figure_svg(figure)


def test_the_stopping_distance_is_outlined_where_it_is_crossed():
    figure = heat_maps({"worm": HeatMap(DISTANCES, range(3))}, stop=0.1)
    (outline,) = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    edges = {tuple(map(tuple, segment)) for segment in outline.get_segments()}
    # inside (at most 0.1): the diagonal and the pair (1, 2); cell 0 is cut off on both sides
    assert edges == {
        ((0.5, -0.5), (0.5, 0.5)),
        ((0.5, 0.5), (0.5, 1.5)),
        ((0.5, 1.5), (0.5, 2.5)),
        ((-0.5, 0.5), (0.5, 0.5)),
        ((0.5, 0.5), (1.5, 0.5)),
        ((1.5, 0.5), (2.5, 0.5)),
    }
    bar = figure.axes[-1]
    assert "stop at 0.1" in bar.get_ylabel()
    assert [0.1, 0.1] in [list(line.get_ydata()) for line in bar.lines]


def test_one_panel_per_map_under_one_colour_bar():
    maps = {f"arm {i}": HeatMap(DISTANCES, range(3), i % 3) for i in range(5)}
    figure = heat_maps(maps)
    assert [axes.get_title(loc="left") for axes in figure.axes[:-1]] == list(maps)
    assert len(figure.axes) == 6


def trace():
    largest = [[NAN, 0.3, 0.2, 0.1], [NAN, 0.5, 0.1, NAN]]
    return DistanceTrace([2, 3, 4, 5], largest, np.array(largest) / 2, (5, 4))


def test_lines_are_seed_means_with_a_band_from_least_to_greatest():
    styles = arm_styles(["dense", "worm"])
    figure = distance_lines({"worm": trace()}, stop=0.1, trigger=0.15, styles=styles)
    left, right = figure.axes
    line = next(line for line in left.lines if line.get_label() == "worm")
    np.testing.assert_allclose(line.get_xydata(), [[3, 0.4], [4, 0.15], [5, 0.1]])
    assert line.get_color() == styles["worm"].colour
    corners = left.collections[0].get_paths()[0].vertices
    for corner in ([3, 0.3], [3, 0.5], [4, 0.1], [4, 0.2]):
        assert np.isclose(corners, corner).all(axis=1).any()
    mean = next(line for line in right.lines if line.get_label() == "worm")
    np.testing.assert_allclose(mean.get_ydata(), [0.2, 0.075, 0.05])
    tickets = next(line for line in left.lines if line.get_marker() == styles["worm"].marker)
    np.testing.assert_allclose(tickets.get_xydata(), [[5, 0.1], [4, 0.1]])


def test_stop_and_trigger_lines_are_drawn_and_visible():
    left, right = distance_lines({"worm": trace()}, stop=0.1, trigger=0.6).axes
    for axes, name, level in ((left, "stop", 0.1), (right, "trigger", 0.6)):
        assert [level, level] in [list(line.get_ydata()) for line in axes.lines]
        assert f"{name} {level:g}" in texts(axes)
        assert axes.get_ylim()[0] == 0.0
        assert axes.get_ylim()[1] > level
        assert axes.get_ylabel() == "mask distance"
        assert axes.get_xlabel() == "epoch"


def test_the_legend_names_every_arm_and_the_tickets():
    figure = distance_lines({"a": trace(), "b": trace()._replace(emerged_at=(None, None))})
    assert [text.get_text() for text in figure.legends[0].texts] == ["a", "b", "a seed's ticket"]


def test_an_arm_that_was_never_measured_draws_nothing_and_does_not_fail():
    empty = DistanceTrace([0, 1], np.full((2, 2), NAN), np.full((2, 2), NAN))
    figure = distance_lines({"worm": empty})
    line = next(line for line in figure.axes[0].lines if line.get_label() == "worm")
    assert line.get_xydata().shape == (0, 2)
    figure_svg(figure)


def test_no_global_figure_state_is_made():
    before = dict(mpl.rcParams)
    heat_maps({"worm": HeatMap(DISTANCES, range(3))})
    distance_lines({"worm": trace()})
    assert dict(mpl.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_wrong_input_names_the_panel():
    with pytest.raises(ValueError, match=r"worm: distances of shape \(3, 3\) do not fit 4 epochs"):
        heat_maps({"worm": HeatMap(DISTANCES, range(4))})
    with pytest.raises(ValueError, match=r"worm: emerged_at=3 is not among the epochs 0 to 2"):
        heat_maps({"worm": HeatMap(DISTANCES, range(3), 3)})
    with pytest.raises(ValueError, match="no heat map to draw"):
        heat_maps({})
    with pytest.raises(ValueError, match=r"worm: distances of shape \(2, 4\) do not fit 3 epochs"):
        distance_lines({"worm": trace()._replace(epochs=[0, 1, 2])})
    with pytest.raises(ValueError, match="worm: emerged_at has 1 entries for 2 seeds"):
        distance_lines({"worm": trace()._replace(emerged_at=(1,))})
