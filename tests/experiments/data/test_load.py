"""Loading by name."""

import numpy as np
import pytest

from experiments.data import NAMES, digits, load


def test_digits_by_name_are_the_digits():
    data = load("digits", split_seed=4, validation=100, limit=30)
    expected = digits(split_seed=4, validation=100, limit=30)
    for name, split in expected.splits.items():
        np.testing.assert_array_equal(data.splits[name].indices, split.indices)
    assert load("digits", split_seed=0, validation=100).validation.size == 100
    assert load("digits", split_seed=0).validation.size == 217


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'imagenette'; known are digits, cifar10, .*tfds_images"):
        load("imagenette", split_seed=0)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "digits"])
def test_sets_on_disk_are_looked_for_where_told(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"No prepared data set '{name}'"):
        load(name, split_seed=0, data_dir=tmp_path)
