import numpy as np
import pytest

from wormjax.evaluation import calibration_error


def test_by_a_loop_over_bins():
    rng = np.random.default_rng(0)
    logits, labels = 2 * rng.normal(size=(50, 4)), rng.integers(0, 4, 50)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    confidence, right = p.max(1), p.argmax(1) == labels
    want = 0.0
    for k in range(10):
        inside = (confidence > k / 10) & (confidence <= (k + 1) / 10)
        if inside.any():
            want += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(logits, labels, bins=10) == pytest.approx(want)


def test_a_perfect_and_a_sure_and_wrong_classifier():
    sure = np.array([[100.0, 0.0]] * 4)
    assert calibration_error(sure, np.zeros(4, int)) == pytest.approx(0)
    assert calibration_error(sure, np.ones(4, int)) == pytest.approx(1)


def test_wrong_calls_are_sentences():
    with pytest.raises(ValueError, match="0 examples and 15 bins"):
        calibration_error(np.zeros((0, 2)), np.zeros(0, int))
    with pytest.raises(ValueError, match="NaN or infinite"):
        calibration_error(np.array([[np.nan, 0.0]]), np.zeros(1, int))
