"""Taylor against NumPy, by entry and by unit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wormjax import scores

# specs, foresight 6.3: L = 1/2 theta' A theta at theta = (1, 1), so g = (1, 0)
A = jnp.array([[2.0, -1.0], [-1.0, 1.0]])


def quadratic(params, matrix):
    theta = params["theta"][0]
    return 0.5 * theta @ matrix @ theta


def test_quadratic_oracle():
    params = {"theta": jnp.array([[3.0, 1.0]])}  # g = (5, -2)
    assert scores.taylor(params, A, loss=quadratic)["theta"].tolist() == [[225.0, 4.0]]
    signed = scores.taylor(params, A, loss=quadratic, form="signed")["theta"]
    assert signed.tolist() == [[15.0, -2.0]]
    assert scores.taylor({"theta": jnp.ones((1, 2))}, A, loss=quadratic)["theta"].tolist() == [
        [1.0, 0.0]
    ]


def mlp_loss(params, batch):
    x, y = batch
    hidden = jnp.tanh(x @ params["first"]["kernel"] + params["first"]["bias"][None])
    logits = hidden @ params["last"]["kernel"]
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))


@pytest.fixture
def mlp():
    rng = np.random.default_rng(0)
    params = {
        "first": {"kernel": rng.normal(size=(3, 4)), "bias": rng.normal(size=4)},
        "last": {"kernel": rng.normal(size=(4, 2))},
    }
    batch = jnp.asarray(rng.normal(size=(8, 3)), jnp.float32), jnp.arange(8) % 2
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params), batch


def test_matches_float64_finite_differences(mlp):
    params, (x, y) = mlp
    exact = jax.tree.map(lambda w: np.asarray(w, np.float64), params)
    x, y = np.asarray(x, np.float64), np.asarray(y)

    def loss(step):
        hidden = np.tanh(x @ (exact["first"]["kernel"] * (1 + step)) + exact["first"]["bias"])
        logits = hidden @ exact["last"]["kernel"]
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return -logits[np.arange(8), y].mean()

    signed = scores.taylor(*mlp, loss=mlp_loss, form="signed")["first"]["kernel"]
    squared = scores.taylor(*mlp, loss=mlp_loss)["first"]["kernel"]
    slopes = np.zeros((3, 4))
    for index in np.ndindex(3, 4):
        step = np.zeros((3, 4))
        step[index] = 1e-6
        slopes[index] = (loss(step) - loss(-step)) / 2e-6  # dL / d(gate) = g w
    np.testing.assert_allclose(signed, slopes, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(squared, slopes**2, rtol=2e-3, atol=1e-9)


def test_the_square_of_the_summed_form_is_that_of_a_gate_on_the_unit(mlp):
    # the paper's joint contribution of a filter is its contribution with a gate behind it
    params, batch = mlp
    signed = scores.taylor(params, batch, loss=mlp_loss, form="signed")["first"]["kernel"]

    def gated(gate):
        kernel = params["first"]["kernel"] * gate[None, :]
        return mlp_loss(params | {"first": params["first"] | {"kernel": kernel}}, batch)

    np.testing.assert_allclose(jnp.sum(signed, axis=0), jax.grad(gated)(jnp.ones(4)), rtol=1e-5)


def test_single_weights_rank_as_by_snip(mlp):
    taylor = scores.taylor(*mlp, loss=mlp_loss)
    snip = scores.snip(*mlp, loss=mlp_loss)
    for layer in ("first", "last"):
        np.testing.assert_array_equal(
            np.argsort(taylor[layer]["kernel"].ravel()), np.argsort(snip[layer]["kernel"].ravel())
        )
        np.testing.assert_allclose(
            taylor[layer]["kernel"], np.square(snip[layer]["kernel"]), rtol=1e-6
        )
    assert taylor["first"]["bias"].ndim == 0


def test_float16_products_do_not_underflow():
    params = {"w": jnp.full((1, 1), 2.0**-13, jnp.float16)}
    tree = scores.taylor(params, None, loss=lambda p, _: p["w"][0, 0] * jnp.float16(2.0**-13))
    assert tree["w"].dtype == jnp.float32
    assert tree["w"].tolist() == [[2.0**-52]]


def test_what_it_refuses():
    params = {"a": {"w": jnp.zeros((1, 2))}}
    with pytest.raises(ValueError, match=r"array of shape \(1, 2\).*mean over the batch"):
        scores.taylor(params, None, loss=lambda p, _: p["a"]["w"])
    with pytest.raises(ValueError, match="'a/w' holds NaN or infinity"):
        scores.taylor(params, None, loss=lambda p, _: jnp.sum(jnp.log(p["a"]["w"])))
    part = {"kernel": optax.MaskedNode(), "bias": jnp.ones(2)}
    tree = scores.taylor(part, None, loss=lambda p, b: pytest.fail("called"))
    assert tree["bias"].ndim == 0
