"""Corruptions: range, determinism, monotone severity, and what single ones must do."""

import io
import itertools

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from wormjax.evaluation import corrupt, corruption_names
from wormjax.evaluation._images import convolved, reflected, sampled, smoothed
from wormjax.evaluation._jpeg import through_jpeg

KEY = jax.random.key(0)
GREY = (load_digits().images[:16] / 16.0)[..., None]


def colours():
    rng = np.random.default_rng(0)
    drawn = smoothed(rng.uniform(size=(1, 32, 32, 3)), 2.0)
    low, high = drawn.min((1, 2), keepdims=True), drawn.max((1, 2), keepdims=True)
    return (drawn - low) / (high - low)


COLOURS = colours()


def test_there_are_fifteen_and_four():
    assert len(corruption_names(extra=False)) == 15
    assert len(corruption_names()) == 19
    assert set(corruption_names()) - set(corruption_names(channels=1)) == {"saturate"}


@pytest.mark.parametrize("name", corruption_names())
def test_range_determinism_and_monotone_severity(name):
    for clean in (GREY, COLOURS):
        if clean.shape[-1] == 1 and name == "saturate":
            continue
        made = [corrupt(clean, name, s, KEY) for s in range(1, 6)]
        for x in made:
            assert x.shape == clean.shape
            assert x.dtype == np.float32
            assert x.min() >= 0
            assert x.max() <= 1
        distances = [float(np.abs(x - clean).mean()) for x in made]
        assert distances[0] > 0
        assert all(a < b for a, b in itertools.pairwise(distances)), distances
        np.testing.assert_array_equal(corrupt(clean, name, 3, KEY), made[2])


DRAWN = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate"}
DRAWN = set(corruption_names(1)) - DRAWN - {"jpeg_compression", "gaussian_blur"}


def test_another_key_draws_otherwise_and_nobody_elses_generator_moves():
    before = np.random.get_state()[1].copy()
    for name in sorted(DRAWN):
        one, other = (corrupt(GREY, name, 3, jax.random.key(k)) for k in (0, 1))
        assert not np.array_equal(one, other), name
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_noise_has_the_moments_that_it_says():
    flat = np.full((8, 32, 32, 3), 0.5)
    for name, sd in (
        ("gaussian_noise", 0.08),
        ("speckle_noise", 0.06),
        ("shot_noise", (0.5 / 100) ** 0.5),
    ):
        got = corrupt(flat, name, 3, KEY)
        assert got.mean() == pytest.approx(0.5, abs=0.003)
        assert got.std() == pytest.approx(sd, rel=0.03)
    hit = corrupt(flat, "impulse_noise", 5, KEY)
    assert (hit != 0.5).mean() == pytest.approx(0.07, abs=0.005)
    assert set(np.unique(hit)) == {0.0, 0.5, 1.0}


def test_blurs_keep_a_flat_image_flat():
    flat = np.full((1, 9, 7, 1), 0.25)
    for name in (
        "gaussian_blur",
        "defocus_blur",
        "glass_blur",
        "motion_blur",
        "zoom_blur",
        "pixelate",
        "elastic_transform",
    ):
        np.testing.assert_allclose(corrupt(flat, name, 5, KEY), 0.25, atol=1e-6)


def test_brightness_and_contrast_by_hand():
    x = np.array([[0.0, 1.0], [0.5, 0.5]])[None, ..., None]
    np.testing.assert_allclose(
        corrupt(x, "brightness", 2, KEY)[0, ..., 0], [[0.1, 1], [0.6, 0.6]], atol=1e-6
    )
    np.testing.assert_allclose(
        corrupt(x, "contrast", 2, KEY)[0, ..., 0], [[0.25, 0.75], [0.5, 0.5]], atol=1e-6
    )
    half = np.arange(16.0).reshape(1, 4, 4, 1) / 15
    blocks = corrupt(half, "pixelate", 4, KEY)[0, ..., 0]  # two by two
    np.testing.assert_allclose(blocks[:2, :2], half[0, :2, :2, 0].mean(), atol=1e-6)


@pytest.mark.parametrize("quality", [20, 80])
def test_jpeg_is_what_a_library_makes_of_grey_images(quality):
    grey = COLOURS[0, ..., 0]
    buffer = io.BytesIO()
    Image.fromarray(np.round(255 * grey).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    want = np.asarray(Image.open(buffer)) / 255
    got = through_jpeg(np.round(255 * grey)[None, ..., None] / 255, quality)[0, ..., 0]
    assert np.abs(got - want).max() <= 2.01 / 255  # it rounds its cosines to integers


def test_sampling_and_convolution_by_hand():
    np.testing.assert_array_equal(reflected(np.array([-2, -1, 0, 3, 4, 5]), 4), [2, 1, 0, 3, 2, 1])
    x = np.arange(4.0).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(sampled(x, np.full((1, 1, 1), 0.5), np.full((1, 1, 1), 0.25)), 1.25)
    kernel = np.zeros((3, 3))
    kernel[1, 2] = 1
    np.testing.assert_array_equal(convolved(x, kernel)[0, :, 0, 0], x[0, :, 1, 0])


def test_wrong_calls_are_sentences():
    with pytest.raises(ValueError, match=r"no corruption 'rain'; there are gaussian_noise"):
        corrupt(GREY, "rain", 1, KEY)
    with pytest.raises(ValueError, match=r"severity=6 must be 1, 2, 3, 4 or 5"):
        corrupt(GREY, "fog", 6, KEY)
    with pytest.raises(ValueError, match=r"these lie in \[0, 16\]. Corrupt them before"):
        corrupt(16 * GREY, "fog", 1, KEY)
    with pytest.raises(
        ValueError, match=r"saturate changes colours, and these images have 1 channels"
    ):
        corrupt(GREY, "saturate", 1, KEY)
