"""Normalisation against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data import channel_moments, normalise

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
EXPECTED = (IMAGES.astype(np.float64) / 255 - np.array(MEAN)) / np.array(STD)


def test_uint8_and_float_give_the_oracle_inside_jit():
    run = jax.jit(lambda x: normalise(x, MEAN, STD))
    out = run(IMAGES)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, EXPECTED, atol=2e-6)
    np.testing.assert_allclose(run((IMAGES / 255).astype(np.float32)), EXPECTED, atol=2e-6)


def test_bfloat16_rounds_the_float32_result_once():
    out = jax.jit(lambda x: normalise(x, MEAN, STD, dtype=jnp.bfloat16))(IMAGES)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(jnp.float32), EXPECTED, rtol=2**-8, atol=2e-6)
    half = jnp.asarray(IMAGES / 255, jnp.bfloat16)
    assert normalise(half, MEAN, STD).dtype == jnp.float32


def test_one_image_and_vmap_over_seeds():
    np.testing.assert_allclose(normalise(jnp.asarray(IMAGES[0]), MEAN, STD), EXPECTED[0], atol=2e-6)
    out = jax.vmap(lambda x: normalise(x, MEAN, STD))(jnp.asarray(IMAGES)[None])
    np.testing.assert_allclose(out, EXPECTED[None], atol=2e-6)


def test_other_dtypes_are_refused():
    with pytest.raises(TypeError, match=r"takes uint8 images .* or float images .* got int32"):
        normalise(jnp.zeros((1, 2, 2, 3), jnp.int32), MEAN, STD)


@pytest.mark.parametrize(
    ("mean", "std"), [((0.5,), (0.5,)), (MEAN, STD[:2]), (MEAN, (0.2, 0.0, 0.2))]
)
def test_constants_that_do_not_fit_are_refused(mean, std):
    with pytest.raises(ValueError, match="one positive std for each of 3 channels"):
        normalise(jnp.asarray(IMAGES), mean, std)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_moments_agree_with_numpy_across_chunks(dtype):
    images = np.random.default_rng(1).integers(0, 256, (5000, 2, 3, 2)).astype(np.uint8)
    unit = images / 255.0
    mean, std = channel_moments(images if dtype == np.uint8 else unit.astype(np.float32))
    np.testing.assert_allclose(mean, unit.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, unit.std(axis=(0, 1, 2)), rtol=1e-6)
    assert all(type(value) is float for value in mean + std)
