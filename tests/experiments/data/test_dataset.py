"""Datasets are pytrees, and a leak between splits is an error."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.data import Dataset, Split, check_disjoint, content_overlaps


def split(rows, source="train", shift=0):
    rows = np.array(rows, np.int64)
    images = np.zeros((len(rows), 2, 2, 1), np.uint8)
    images[:, 0, 0, 0] = rows + shift
    return Split(images, (rows % 3).astype(np.int32), rows, source)


def dataset(train, validation, test):
    return Dataset("toy", train, validation, test, classes=3, mean=(0.5,), std=(0.25,))


CLEAN = dataset(split([0, 1, 2]), split([3, 4]), split([0, 1], source="test", shift=100))


def test_the_same_row_numbers_of_another_source_are_no_overlap():
    check_disjoint(CLEAN)
    check_disjoint(CLEAN, content=True)
    assert content_overlaps(CLEAN) == ()


def test_worm_d1_testing_on_training_rows_is_refused():
    leaky = dataclasses.replace(CLEAN, test=split([9, 2, 0]))
    with pytest.raises(ValueError, match=r"'train' and 'test' of 'toy' share 2 rows .*row 0"):
        check_disjoint(leaky)


def test_validating_on_training_rows_is_refused():
    leaky = dataclasses.replace(CLEAN, validation=split([2, 5]))
    with pytest.raises(ValueError, match=r"'train' and 'validation' .* share 1 rows .*row 2"):
        check_disjoint(leaky)


def test_a_row_twice_in_one_split_is_refused():
    with pytest.raises(
        ValueError, match=r"'train' of 'toy' holds 1 rows .* more than once .*row 4"
    ):
        check_disjoint(dataclasses.replace(CLEAN, train=split([4, 1, 4])))


def test_equal_images_under_other_row_numbers_are_reported_and_refused_on_request():
    # Test rows 0, 1, 2 show what training rows 1, 2, 3 show; the third is no training row.
    leaky = dataset(split([0, 1, 2]), split([7]), split([0, 1, 2], source="test", shift=1))
    check_disjoint(leaky)
    (overlap,) = content_overlaps(leaky)
    assert (overlap.first, overlap.second) == ("train", "test")
    assert overlap.positions.tolist() == [[1, 0], [2, 1]]
    with pytest.raises(ValueError, match=r"share 2 images \(first: train\[1\] equals test\[0\]\)"):
        check_disjoint(leaky, content=True)


def test_an_image_that_recurs_is_reported_once_beside_its_earliest_twin():
    same = np.zeros((2, 2, 2, 1), np.uint8)
    train = Split(same, np.zeros(2, np.int32), np.arange(2))
    test = Split(same, np.zeros(2, np.int32), np.arange(2), source="test")
    (overlap,) = content_overlaps(dataset(train, split([7]), test))
    assert overlap.positions.tolist() == [[0, 0], [0, 1]]


def test_device_put_moves_a_dataset_and_jit_takes_it():
    moved = jax.device_put(CLEAN)
    assert isinstance(moved.train.images, jax.Array)
    assert moved.train.images.dtype == np.uint8
    assert (moved.name, moved.mean, moved.test.source) == ("toy", (0.5,), "test")
    assert jax.jit(lambda data: data.train.labels.sum())(moved) == 0 + 1 + 2
    check_disjoint(moved, content=True)


def test_sizes_and_shapes():
    assert {name: part.size for name, part in CLEAN.splits.items()} == {
        "train": 3,
        "validation": 2,
        "test": 2,
    }
    assert CLEAN.image_shape == (2, 2, 1)
