"""SNIP against NumPy, and against the derivative in the mask that defines it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wormjax as wj
from wormjax import scores

# specs, foresight 6.3: L = 1/2 theta' A theta at theta = (1, 1)
A = jnp.array([[2.0, -1.0], [-1.0, 1.0]])


def quadratic(params, matrix):
    theta = params["theta"][0]
    return 0.5 * theta @ matrix @ theta


def test_quadratic_oracle():
    tree = scores.snip({"theta": jnp.ones((1, 2))}, A, loss=quadratic)
    assert tree["theta"].tolist() == [[1.0, 0.0]]


def test_quadratic_oracle_under_a_mask():
    # a mask inside the loss makes it the iterated form: what is masked scores 0
    masks = {"theta": jnp.array([[True, False]])}

    def masked(params, matrix):
        return quadratic(wj.apply_masks(params, masks), matrix)

    tree = scores.snip({"theta": jnp.ones((1, 2))}, A, loss=masked)
    assert tree["theta"].tolist() == [[2.0, 0.0]]


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_quadratics(seed):
    rng = np.random.default_rng(seed)
    theta, matrix = rng.normal(size=4), rng.normal(size=(4, 4))
    params = {"theta": jnp.asarray(theta[None], jnp.float32)}
    tree = scores.snip(params, jnp.asarray(matrix, jnp.float32), loss=quadratic)
    expected = np.abs(theta * ((matrix + matrix.T) @ theta)) / 2
    np.testing.assert_allclose(tree["theta"][0], expected, rtol=1e-4, atol=1e-5)


def mlp_loss(params, batch):
    x, y = batch
    hidden = jax.nn.relu(x @ params["first"]["kernel"] + params["first"]["bias"][None])
    logits = hidden @ params["last"]["kernel"]
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))


@jax.jit
def snip_mlp(params, batch):
    return scores.snip(params, batch, loss=mlp_loss)


def mlp(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    params = {
        "first": {"kernel": rng.normal(size=(3, 4)), "bias": rng.normal(size=4)},
        "last": {"kernel": rng.normal(size=(4, 2))},
    }
    batch = jnp.asarray(rng.normal(size=(8, 3)), dtype), jnp.arange(8) % 2
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), params), batch


def test_is_the_derivative_in_the_mask():
    params, batch = mlp()

    def of_mask(masks):
        return mlp_loss(jax.tree.map(jnp.multiply, params, masks), batch)

    expected = jax.jit(jax.grad(of_mask))(jax.tree.map(jnp.ones_like, params))
    tree = snip_mlp(params, batch)
    for layer in ("first", "last"):
        np.testing.assert_allclose(
            tree[layer]["kernel"], np.abs(expected[layer]["kernel"]), rtol=1e-5, atol=1e-7
        )
    assert tree["first"]["bias"].ndim == 0


def test_matches_float64_finite_differences():
    params, (x, y) = mlp()
    kernels = {k: np.asarray(params[k]["kernel"], np.float64) for k in params}
    bias, x, y = np.asarray(params["first"]["bias"], np.float64), np.asarray(x), np.asarray(y)

    def loss(mask):
        logits = np.maximum(x @ (kernels["first"] * mask) + bias, 0) @ kernels["last"]
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return -logits[np.arange(8), y].mean()

    tree = snip_mlp(params, (jnp.asarray(x), jnp.asarray(y)))
    for index in np.ndindex(3, 4):
        step = np.zeros((3, 4))
        step[index] = 1e-6
        slope = (loss(1 + step) - loss(1 - step)) / 2e-6
        np.testing.assert_allclose(tree["first"]["kernel"][index], abs(slope), rtol=1e-3, atol=1e-6)


def test_scores_are_in_units_of_the_loss():
    params, batch = mlp()
    single = snip_mlp(params, batch)
    double = scores.snip(params, batch, loss=lambda p, b: 2.0 * mlp_loss(p, b))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(2 * a, b), single, double)


def test_batches_cancel_before_the_absolute_value():
    # two batches with opposite gradients: a sum inside the loss cancels, a sum of scores would not
    params = {"w": jnp.ones((1, 1))}
    batches = jnp.array([3.0, -3.0])
    tree = scores.snip(params, batches, loss=lambda p, b: jnp.sum(b) * p["w"][0, 0])
    assert tree["w"].tolist() == [[0.0]]


def test_float16_products_do_not_underflow():
    params = {"w": jnp.full((1, 1), 2.0**-13, jnp.float16)}
    tree = scores.snip(params, None, loss=lambda p, _: p["w"][0, 0] * jnp.float16(2.0**-13))
    assert tree["w"].dtype == jnp.float32
    assert tree["w"].tolist() == [[2.0**-26]]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_near_float32(dtype):
    exact, half = (snip_mlp(*mlp(d)) for d in (jnp.float32, dtype))
    np.testing.assert_allclose(half["last"]["kernel"], exact["last"]["kernel"], rtol=0.1, atol=0.01)


def test_only_ranked_leaves_are_differentiated():
    @jax.custom_vjp
    def forbidden(x):
        return x

    forbidden.defvjp(lambda x: (x, None), lambda _, g: pytest.fail("differentiated the bias"))
    params = {"kernel": jnp.ones((2, 1)), "bias": jnp.ones(1), "count": jnp.arange(3)}

    def loss(p, x):
        return jnp.mean(x @ p["kernel"] + forbidden(p["bias"])[None]) + p["count"].sum().astype(
            float
        )

    tree = scores.snip(params, jnp.ones((1, 2)), loss=loss)
    assert tree["kernel"].tolist() == [[1.0], [1.0]]


def test_a_part_without_weights_never_calls_the_loss():
    part = {"kernel": optax.MaskedNode(), "bias": jnp.ones(2)}
    tree = scores.snip(part, None, loss=lambda p, b: pytest.fail("called"))
    assert tree["bias"].ndim == 0


def test_a_loss_that_is_no_scalar():
    with pytest.raises(ValueError, match=r"array of shape \(8,\).*mean over the batch"):
        scores.snip({"w": jnp.ones((1, 8))}, None, loss=lambda p, _: p["w"][0])


def test_a_loss_that_is_not_finite_names_the_leaf():
    params = {"a": {"w": jnp.zeros((1, 2))}}

    def loss(p, _):
        return jnp.sum(jnp.log(p["a"]["w"]))

    with pytest.raises(ValueError, match="'a/w' holds NaN or infinity"):
        scores.snip(params, None, loss=loss)
    assert np.all(np.isnan(jax.jit(lambda p: scores.snip(p, None, loss=loss))(params)["a"]["w"]))
