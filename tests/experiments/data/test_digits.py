"""The embedded digits, against scikit-learn's own arrays."""

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from experiments.data import check_disjoint, digits


@pytest.fixture(scope="module")
def data():
    return digits(split_seed=0)


def test_every_digit_is_in_exactly_one_split(data):
    rows = np.concatenate([split.indices for split in data.splits.values()])
    assert sorted(rows.tolist()) == list(range(1797))
    assert [split.size for split in data.splits.values()] == [1280, 217, 300]
    check_disjoint(data, content=True)


def test_images_and_labels_are_those_of_the_source(data):
    source = load_digits()
    for split in data.splits.values():
        assert split.images.dtype == np.float32
        assert split.labels.dtype == np.int32
        assert split.indices.dtype == np.int64
        np.testing.assert_array_equal(split.images[..., 0] * 16, source.images[split.indices])
        np.testing.assert_array_equal(split.labels, source.target[split.indices])


def test_classes_are_in_proportion(data):
    total = np.bincount(load_digits().target)
    for split in data.splits.values():
        assert np.abs(np.bincount(split.labels) - split.size * total / 1797).max() < 2.1


def test_moments_are_those_of_the_training_split(data):
    pixels = data.train.images.astype(np.float64)
    np.testing.assert_allclose(data.mean, [pixels.mean()], rtol=1e-12)
    np.testing.assert_allclose(data.std, [pixels.std()], rtol=1e-12)


def test_the_seed_names_the_split(data):
    again, other = digits(split_seed=0), digits(split_seed=1)
    np.testing.assert_array_equal(data.train.indices, again.train.indices)
    np.testing.assert_array_equal(data.train.images, again.train.images)
    assert set(data.test.indices.tolist()) != set(other.test.indices.tolist())


def test_limit_takes_a_stratified_part_of_each_split(data):
    few = digits(split_seed=0, limit=50)
    for part, whole in zip(few.splits.values(), data.splits.values(), strict=True):
        assert part.size == 50
        assert set(part.indices.tolist()) <= set(whole.indices.tolist())
        assert np.bincount(part.labels, minlength=10).min() >= 3


def test_sizes_are_settings():
    data = digits(split_seed=0, validation=97, test=700)
    assert [split.size for split in data.splits.values()] == [1000, 97, 700]


def test_nothing_left_to_train_on_is_refused():
    with pytest.raises(ValueError, match="cannot deal 1797 rows out to splits of -3, 1500, 300"):
        digits(split_seed=0, validation=1500)


def test_missing_scikit_learn_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"scikit-learn.*pip install 'wormjax\[experiments\]'"):
        digits(split_seed=0)
