"""The curve over draw epochs: what is drawn is what was given."""

import itertools

import numpy as np
import pytest

from experiments.report import CostPoint, DrawCurve, accuracy_by_cost, accuracy_by_draw, figure_svg

NAN = float("nan")
CURVE = DrawCurve([1, 2, 8], [[0.5, 0.7, 0.9], [0.7, 0.9, 0.9]], [(4, 0.8), None], best=8)


def drawn(figure, marker):
    [axes] = figure.axes
    return [x.get_xydata().tolist() for x in axes.lines if x.get_marker() == marker]


def test_mean_band_tickets_best_and_baseline():
    figure = accuracy_by_draw({"p = 50%": CURVE}, baseline=[0.9, 1.0])
    [axes] = figure.axes
    line = next(x for x in axes.lines if x.get_label() == "p = 50%")
    np.testing.assert_allclose(line.get_xydata(), [[1, 0.6], [2, 0.8], [8, 0.9]])
    [band] = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    sd = np.std([0.5, 0.7], ddof=1)
    np.testing.assert_allclose([heights.min(), heights.max()], [0.6 - sd, 0.8 + sd])
    assert drawn(figure, "*") == [[[4, 0.8]]]
    assert drawn(figure, "o") == [[[8, 0.9]]]
    [grey] = axes.patches
    sd = np.std([0.9, 1.0], ddof=1)
    np.testing.assert_allclose([grey.get_y(), grey.get_height()], [0.95 - sd, 2 * sd])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["unpruned", "p = 50%", "best by validation", "a seed's ticket"]


def test_draw_epochs_and_tickets_are_named_and_nothing_else():
    figure = accuracy_by_draw({"p": CURVE})
    figure_svg(figure)
    [axes] = figure.axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "2", "4", "8"]
    assert (axes.get_xscale(), len(axes.patches)) == ("linear", 0)


def test_a_wide_range_is_logarithmic_and_its_labels_do_not_overlap():
    epochs = [1, 2, 3, 5, 10, 20, 40, 60, 80, 100, 120, 140, 160]
    figure = accuracy_by_draw({"p": DrawCurve(epochs, [np.linspace(0.5, 0.9, 13)])})
    figure_svg(figure)
    [axes] = figure.axes
    assert axes.get_xscale() == "log"
    named = [t for t in axes.get_xticklabels() if t.get_text()]
    boxes = [t.get_window_extent() for t in named]
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))
    assert len(named) >= 9


def test_a_seed_that_was_not_retrained_is_left_out_of_the_mean():
    figure = accuracy_by_draw({"p": DrawCurve([1, 2], [[0.5, NAN], [0.7, 0.8]])})
    line = next(x for x in figure.axes[0].lines if x.get_label() == "p")
    np.testing.assert_allclose(line.get_ydata(), [0.6, 0.8])


@pytest.mark.parametrize(
    ("curves", "sentence"),
    [
        ({}, "there is no curve to draw"),
        ({"p": DrawCurve([1], [0.5])}, r"p: accuracies of shape \(1,\) do not fit 1 draw epochs"),
        ({"p": DrawCurve([], [[]])}, "at least one"),
        ({"p": DrawCurve([2, 1], [[0.5, 0.5]])}, r"p: the draw epochs \[2, 1\] do not rise"),
        ({"p": DrawCurve([0, 1], [[0.5, 0.5]])}, "do not rise from 1 on"),
        ({"p": DrawCurve([1], [[0.5]], best=3)}, "p: best=3 is not among the draw epochs"),
    ],
)
def test_what_does_not_fit_is_named(curves, sentence):
    with pytest.raises(ValueError, match=sentence):
        accuracy_by_draw(curves)


def test_a_point_stands_at_the_means_and_its_arms_are_deviations():
    points = {
        "dense": CostPoint([1.0, 1.0], [0.9, 0.8]),
        "ticket": CostPoint([0.4, 0.6], [0.7, 0.7]),
    }
    path = [CostPoint([0.2, 0.4], [0.5, 0.6]), CostPoint([0.8], [0.8])]
    axes, close = accuracy_by_cost(points, path=path, path_name="draws").axes
    [line, *_] = [x for x in axes.lines if x.get_label() == "draws"]
    np.testing.assert_allclose(line.get_xydata(), [[0.3, 0.55], [0.8, 0.8]])
    dense, ticket = axes.containers
    np.testing.assert_allclose(dense.lines[0].get_xydata(), [[1, 0.85]])
    np.testing.assert_allclose(ticket.lines[0].get_xydata(), [[0.5, 0.7]])
    low, high = close.get_ylim()  # up to 10 points below the best
    assert 0.7 < low < 0.8 < 0.85 < high
    across = ticket.lines[2][0].get_segments()[0]
    np.testing.assert_allclose(across[:, 0], 0.5 + np.std([0.4, 0.6], ddof=1) * np.array([-1, 1]))


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        ({}, "there is no point to draw"),
        ({"dense": CostPoint([1.0], [])}, "dense: 1 costs and 0 accuracies; give one of each"),
        ({"dense": CostPoint([], [])}, "dense: 0 costs and 0 accuracies"),
    ],
)
def test_a_point_without_values_is_named(points, sentence):
    with pytest.raises(ValueError, match=sentence):
        accuracy_by_cost(points)
