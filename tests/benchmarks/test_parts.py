"""The convolutions that do a part of their work do that part right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import _parts, _plain


@pytest.fixture(params=[(4, 4, 1), (4, 8, 2)], ids=["same", "wider"])
def case(request):
    inputs, outputs, stride = request.param
    out = 8 // stride
    shapes = (2, 8, 8, inputs), (3, 3, inputs, outputs), (2, out, out, outputs)
    rng = np.random.default_rng(0)
    return *(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes), stride


def pulled(convolve, x, kernel, grad, stride):
    out, pull = jax.vjp(lambda x, kernel: convolve(x, kernel, stride), x, kernel)
    return out, *pull(grad)


def test_without_input_gradients_only_that_of_the_input_differs(case):
    out, to_x, to_kernel = pulled(_plain.convolve, *case)
    same_out, passed, same_kernel = pulled(_parts._without_input_gradient, *case)
    np.testing.assert_array_equal(same_out, out)
    np.testing.assert_array_equal(same_kernel, to_kernel)
    assert passed.shape == to_x.shape
    x, _, grad, stride = case
    np.testing.assert_array_equal(passed[:, ::stride, ::stride], grad[..., : x.shape[-1]])
    assert jnp.sum(passed != 0) == jnp.sum(grad[..., : x.shape[-1]] != 0)


def test_without_weight_gradients_only_that_of_the_kernel_is_zero(case):
    out, to_x, _ = pulled(_plain.convolve, *case)
    same_out, same_x, to_kernel = pulled(_parts._without_weight_gradient, *case)
    np.testing.assert_array_equal(same_out, out)
    np.testing.assert_array_equal(same_x, to_x)
    assert not jnp.any(to_kernel)


def test_without_work_the_shape_stays(case):
    x, kernel, grad, stride = case
    assert _parts._without_work(x, kernel, stride).shape == grad.shape
