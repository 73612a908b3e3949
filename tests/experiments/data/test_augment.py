"""Augmentation against a NumPy loop, given what was drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data import Crops, crop_flip, draw_crops, pad_crop_flip
from tests.compiling import counted

IMAGES = np.random.default_rng(0).integers(1, 256, (7, 6, 5, 3), dtype=np.uint8)


def oracle(images, crops, pad):
    """One image at a time, as the definition reads."""
    top, left, mirrored = (np.asarray(field) for field in crops)
    n, height, width, _ = images.shape
    out = np.zeros_like(images)
    for k in range(n):
        for i in range(height):
            for j in range(width):
                row = i + top[k] - pad
                column = (width - 1 - j if mirrored[k] else j) + left[k] - pad
                if 0 <= row < height and 0 <= column < width:
                    out[k, i, j] = images[k, row, column]
    return out


@pytest.mark.parametrize("pad", [0, 1, 4])
def test_crops_follow_the_definition(pad):
    crops = draw_crops(jax.random.key(pad), 7, pad=pad)
    assert 0 < np.asarray(crops.mirrored).sum() < 7
    out = jax.jit(lambda x, c: crop_flip(x, c, pad=pad))(IMAGES, crops)
    np.testing.assert_array_equal(out, oracle(IMAGES, crops, pad))


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32, jnp.bfloat16])
def test_dtype_and_shape_are_kept(dtype):
    key = jax.random.key(1)
    out = jax.jit(pad_crop_flip)(key, jnp.asarray(IMAGES).astype(dtype))
    assert out.dtype == dtype
    expected = oracle(IMAGES, draw_crops(key, 7), 4)
    np.testing.assert_array_equal(out.astype(jnp.float32), expected.astype(np.float32))


def test_corners_of_the_padding_are_reached():
    crops = Crops(jnp.array([0, 2]), jnp.array([2, 0]), jnp.array([False, False]))
    out = crop_flip(jnp.asarray(IMAGES[:2]), crops, pad=1)
    np.testing.assert_array_equal(out[0, 1:, :-1], IMAGES[0, :-1, 1:])
    np.testing.assert_array_equal(out[1, :-1, 1:], IMAGES[1, 1:, :-1])
    assert not out[0, 0].any()
    assert not out[1, -1].any()


def test_extremes_switch_off_or_always_mirror():
    key, x = jax.random.key(0), jnp.asarray(IMAGES)
    np.testing.assert_array_equal(pad_crop_flip(key, x, pad=0, flip=0), IMAGES)
    np.testing.assert_array_equal(pad_crop_flip(key, x, pad=0, flip=1), IMAGES[:, :, ::-1])


def test_draws_are_uniform_and_independent():
    top, left, mirrored = draw_crops(jax.random.key(0), 40_500, pad=4, flip=0.25)
    assert top.dtype == left.dtype == jnp.int32
    cells = np.bincount(np.asarray(top) * 9 + np.asarray(left), minlength=81)
    # 500 expected in each of 81 cells, standard deviation 22.
    assert len(cells) == 81
    assert np.abs(cells - 500).max() < 5 * 22
    assert abs(np.asarray(mirrored).mean() - 0.25) < 5 * (0.25 * 0.75 / 40_500) ** 0.5
    assert abs(np.corrcoef(np.asarray(top), np.asarray(mirrored))[0, 1]) < 5 / 40_500**0.5


def test_the_key_decides_everything_and_is_no_constant():
    run, programs = counted(lambda key, images: pad_crop_flip(key, images))
    x = jnp.asarray(IMAGES)
    first, again = run(jax.random.key(0), x), run(jax.random.key(0), x)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, pad_crop_flip(jax.random.key(0), x))
    assert (first != run(jax.random.key(1), x)).any()
    assert len(programs) == 1


def test_vmap_over_seeds_equals_one_seed_at_a_time():
    keys = jax.random.split(jax.random.key(0), 3)
    images = jnp.stack([jnp.asarray(IMAGES)] * 3)
    together = jax.jit(jax.vmap(pad_crop_flip))(keys, images)
    for k in range(3):
        np.testing.assert_array_equal(together[k], pad_crop_flip(keys[k], images[k]))


@pytest.mark.parametrize("setting", [{"pad": -1}, {"flip": -0.1}, {"flip": 1.5}])
def test_impossible_settings_are_refused(setting):
    with pytest.raises(ValueError, match=r"pad counts pixels .* flip is a probability"):
        pad_crop_flip(jax.random.key(0), jnp.asarray(IMAGES), **setting)


def test_a_single_image_is_refused():
    with pytest.raises(ValueError, match=r"a batch \[N, H, W, C\], got shape \(6, 5, 3\)"):
        pad_crop_flip(jax.random.key(0), jnp.asarray(IMAGES[0]))
