"""Diagonal Hessian against the exact Hessian, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wormjax import scores

KEY = jax.random.key(3)


def mlp_loss(params, batch):
    x, y = batch
    logits = jnp.tanh(x @ params["first"]["kernel"]) @ params["last"]["kernel"]
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))


def mlp(dtype):
    rng = np.random.default_rng(0)
    params = {
        "first": {"kernel": jnp.asarray(rng.normal(size=(3, 4)), dtype)},
        "last": {"kernel": jnp.asarray(rng.normal(size=(4, 2)), dtype)},
    }
    return params, (jnp.asarray(rng.normal(size=(8, 3)), dtype), jnp.arange(8) % 2)


def exact_hessian(params, batch):
    """The whole matrix, and the weights as a vector, by NumPy from JAX's nested Jacobians."""
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    matrix = jax.jit(jax.hessian(lambda v: mlp_loss(unravel(v), batch)))(flat)
    return np.asarray(matrix), np.asarray(flat)


def raveled(tree):
    return np.concatenate([np.ravel(tree[k]["kernel"]) for k in ("first", "last")])


def test_one_probe_is_half_w_squared_z_hz():
    # with every probe known: the sign vectors are drawn again from the key as the docstring says
    with jax.enable_x64(True):
        params, batch = mlp(jnp.float64)
        matrix, w = exact_hessian(params, batch)
        shapes = {0: (3, 4), 1: (4, 2)}
        mean = np.zeros(20)
        for p in range(5):
            keys = [jax.random.fold_in(jax.random.fold_in(KEY, p), i) for i in shapes]
            z = np.concatenate(
                [
                    np.ravel(jax.random.rademacher(k, s, jnp.float64))
                    for k, s in zip(keys, shapes.values(), strict=True)
                ]
            )
            assert set(z) == {-1, 1}
            mean += z * (matrix @ z) / 5
        tree = scores.diagonal_hessian(params, batch, KEY, loss=mlp_loss, probes=5)
        assert tree["first"]["kernel"].dtype == jnp.float64
        np.testing.assert_allclose(raveled(tree), w**2 * mean / 2, rtol=1e-10, atol=1e-14)


def test_many_probes_find_the_exact_diagonal():
    with jax.enable_x64(True):
        params, batch = mlp(jnp.float64)
        matrix, w = exact_hessian(params, batch)
        probes = 4000
        tree = scores.diagonal_hessian(params, batch, KEY, loss=mlp_loss, probes=probes)
        off = np.square(matrix).sum(axis=1) - np.diag(matrix) ** 2
        deviation = np.sqrt(off / probes)  # of the estimate of h, as the docstring says
        error = np.abs(2 * raveled(tree) / w**2 - np.diag(matrix))
        assert np.all(error < 4 * deviation)
        assert np.mean(error**2 / deviation**2) == pytest.approx(1, abs=0.7)
        assert np.max(deviation) < 0.1 * np.max(np.abs(np.diag(matrix)))


def test_float32_is_near_float64():
    with jax.enable_x64(True):  # for both, since JAX draws other signs without
        single = scores.diagonal_hessian(*mlp(jnp.float32), KEY, loss=mlp_loss)
        double = scores.diagonal_hessian(*mlp(jnp.float64), KEY, loss=mlp_loss)
    assert single["last"]["kernel"].dtype == jnp.float32
    np.testing.assert_allclose(raveled(single), raveled(double), rtol=1e-3, atol=1e-5)


def test_a_diagonal_hessian_takes_one_probe():
    # L = sum c w^3: h = 6 c w, so the score is 3 c w^3, and below 0 where the curvature is
    c, w = jnp.array([[1.0, 2.0, -1.0]]), jnp.array([[2.0, -1.0, 3.0]])
    tree = scores.diagonal_hessian(
        {"w": w}, c, KEY, loss=lambda p, c: jnp.sum(c * p["w"] ** 3), probes=1
    )
    np.testing.assert_allclose(tree["w"], [[24, -6, -81]], rtol=1e-6)


def test_the_key_decides():
    params, batch = mlp(jnp.float32)
    first, same, other = (
        scores.diagonal_hessian(params, batch, key, loss=mlp_loss, probes=1)
        for key in (KEY, KEY, jax.random.key(4))
    )
    jax.tree.map(np.testing.assert_array_equal, first, same)
    assert not np.array_equal(first["first"]["kernel"], other["first"]["kernel"])


def test_a_loss_with_its_own_backward_rule():
    @jax.custom_vjp
    def square(x):
        return x**2

    square.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * g,))
    params = {"w": jnp.array([[3.0]])}
    tree = scores.diagonal_hessian(params, None, KEY, loss=lambda p, _: square(p["w"][0, 0]))
    assert tree["w"].tolist() == [[9.0]]


def test_what_it_refuses():
    params = {"a": {"w": jnp.ones((1, 2))}}
    with pytest.raises(ValueError, match="probes must be at least 1, got 0"):
        scores.diagonal_hessian(params, None, KEY, loss=lambda p, _: jnp.sum(p["a"]["w"]), probes=0)
    with pytest.raises(ValueError, match=r"array of shape \(1, 2\).*mean over the batch"):
        scores.diagonal_hessian(params, None, KEY, loss=lambda p, _: p["a"]["w"])
    with pytest.raises(ValueError, match="'a/w' holds NaN or infinity"):
        scores.diagonal_hessian(
            params, None, KEY, loss=lambda p, _: jnp.sum(jnp.log(p["a"]["w"] - 1))
        )
    part = {"kernel": optax.MaskedNode(), "bias": jnp.ones(2)}
    tree = scores.diagonal_hessian(part, None, KEY, loss=lambda p, b: pytest.fail("called"))
    assert tree["bias"].ndim == 0
