"""Magnitude against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wormjax import scores

shapes = hnp.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=4)
finite = st.floats(-(2.0**100), 2.0**100, width=32)


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.float32, shapes, elements=finite))
def test_equals_numpy_bit_for_bit(weights):
    tree = scores.magnitude({"w": weights, "v": weights.ravel()})
    np.testing.assert_array_equal(tree["w"], np.abs(weights))
    assert tree["w"].dtype == jnp.float32
    assert tree["v"].ndim == 0


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_keeps_the_dtype(dtype):
    tree = scores.magnitude({"w": jnp.array([[-1.5, 0.25]], dtype)})
    assert tree["w"].dtype == dtype
    assert tree["w"].tolist() == [[1.5, 0.25]]


def test_float8_becomes_float32():
    tree = scores.magnitude({"w": jnp.array([[-1.5, 0.25]], jnp.float8_e4m3fn)})
    assert tree["w"].dtype == jnp.float32
    assert tree["w"].tolist() == [[1.5, 0.25]]


def test_float64_keeps_what_float32_would_merge():
    with jax.enable_x64(True):
        tree = scores.magnitude({"w": jnp.array([[1.0, 1.0 + 2.0**-40]], jnp.float64)})
        assert tree["w"][0, 1] > tree["w"][0, 0]


def test_default_leaves_stacked_biases_and_scales_alone():
    params = {name: jnp.ones((4, 3)) for name in ("kernel", "bias", "scale", "beta", "gamma")}
    ranked = {name for name, s in scores.magnitude(params).items() if s.ndim}
    assert ranked == {"kernel"}


def test_prunable_overrides_the_default():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.array([-3.0, 1.0])}
    tree = scores.magnitude(params, prunable={"kernel": False, "bias": True})
    assert tree["kernel"].ndim == 0
    assert tree["bias"].tolist() == [3.0, 1.0]


def test_vmap_over_seeds():
    weights = jnp.arange(-6.0, 6.0).reshape(3, 2, 2)
    np.testing.assert_array_equal(
        jax.vmap(scores.magnitude)({"w": weights})["w"], np.abs(np.asarray(weights))
    )
