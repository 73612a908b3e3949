"""Masks as text."""

import numpy as np
import pytest

from experiments.training import mask_distances, mask_from_text, mask_text


@pytest.mark.parametrize("size", [1, 7, 8, 9, 96])
def test_a_mask_survives_its_text(size):
    mask = np.random.default_rng(size).random(size) < 0.5
    text = mask_text(mask)
    assert len(text) == 2 * -(-size // 8)
    np.testing.assert_array_equal(mask_from_text(text, size), mask)


def test_a_masks_text_is_readable_by_hand():
    assert mask_text([True, False, False, False, False, False, False, True, True]) == "8180"


def test_distances_of_every_two_masks():
    masks = [mask_text(m) for m in ([1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [0, 0, 1, 1, 1])]
    want = [[0, 0.4, 1], [0.4, 0, 0.6], [1, 0.6, 0]]
    np.testing.assert_allclose(mask_distances(masks, 5), want)
