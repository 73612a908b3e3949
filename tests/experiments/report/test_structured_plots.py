"""Pictures of structured tickets: what is drawn where."""

import numpy as np
import pytest

from experiments.report import accuracy_against_time, mask_pictures


def test_points_for_each_method_and_the_dense_network_at_one():
    figure = accuracy_against_time(
        {"refill": [(0.5, 0.9), (0.25, 0.8)], "regroup": [(2.0, 0.95)]}, dense=0.96
    )
    [axes] = figure.axes
    refill, regroup, dense = axes.lines
    assert refill.get_xydata().tolist() == [[0.5, 0.9], [0.25, 0.8]]
    assert regroup.get_label() == "regroup"
    assert dense.get_xydata().tolist() == [[1.0, 0.96]]
    with pytest.raises(ValueError, match="no curve to draw"):
        accuracy_against_time({}, dense=0.9)


def test_masks_stand_side_by_side():
    before = np.linspace(0, 1, 6).reshape(2, 3)
    figure = mask_pictures(
        {"before": before, "after": before > 0.5}, xlabel="input", ylabel="output"
    )
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes] == [
        "before",
        "after",
    ]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), before)
    with pytest.raises(ValueError, match="no mask to draw"):
        mask_pictures({}, xlabel="", ylabel="")
