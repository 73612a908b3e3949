import numpy as np
import pytest
from scipy.stats import t

from experiments.report import accuracy_against_density, similarity_maps

CURVES = {"random growth": {"set": {0.2: [0.9, 0.92, 0.97], 0.1: [0.8, 0.8, 0.8]}}}


def test_a_curve_shows_means_and_its_band_the_interval():
    figure = accuracy_against_density(CURVES, levels={"dense": [0.98, 0.99]})
    [axes] = figure.axes
    line, dense = axes.lines
    np.testing.assert_allclose(line.get_xdata(), [0.1, 0.2])
    np.testing.assert_allclose(line.get_ydata(), [0.8, 0.93])
    np.testing.assert_allclose(dense.get_ydata(), 0.985)
    low, high = (f(axes.collections[0].get_paths()[0].vertices[:, 1]) for f in (np.min, np.max))
    half = t.ppf(0.975, 2) * np.std(CURVES["random growth"]["set"][0.2], ddof=1) / np.sqrt(3)
    assert 0.93 + half > 1
    assert high == 1  # no accuracy is more
    assert low == pytest.approx(min(0.8, 0.93 - half))
    assert axes.get_title(loc="left") == "random growth"


def test_maps_carry_their_numbers():
    figure = similarity_maps({"start": [[1.0, 0.25], [0.25, 1.0]]}, ["a", "b"], chance=1 / 3)
    assert [text.get_text() for text in figure.axes[0].texts] == ["1.00", "0.25", "0.25", "1.00"]
    assert "0.33" in figure.axes[1].get_ylabel()


def test_wrong_input_gets_its_sentence():
    with pytest.raises(ValueError, match="no curve to draw"):
        accuracy_against_density({"random": {}})
    with pytest.raises(ValueError, match="set: a density has no value"):
        accuracy_against_density({"random": {"set": {0.1: []}}})
    with pytest.raises(ValueError, match=r"a map of shape \(1, 1\) for 2 names"):
        similarity_maps({"start": [[1.0]]}, ["a", "b"])
    with pytest.raises(ValueError, match="no map to draw"):
        similarity_maps({}, [])
