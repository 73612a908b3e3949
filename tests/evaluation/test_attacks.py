"""FGSM and PGD against analytic optima and a NumPy reference with its own gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wormjax.evaluation import accuracy_under, fgsm, pgd

RNG = np.random.default_rng(0)
W = RNG.normal(size=(6, 5))
V = RNG.normal(size=(5, 3))
X = RNG.uniform(0.2, 0.8, size=(4, 6))
Y = np.array([0, 2, 1, 1])


def loss(x, y):
    """Summed cross-entropy of a small network."""
    logits = jnp.tanh(x @ jnp.asarray(W, x.dtype)) @ jnp.asarray(V, x.dtype)
    log_p = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.take_along_axis(log_p, y[:, None], 1))


def numpy_gradient(x):
    hidden = np.tanh(x @ W)
    z = hidden @ V
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(x)), Y] -= 1
    return ((p @ V.T) * (1 - hidden**2)) @ W.T


def numpy_pgd(x, epsilon, step, steps, norm, bounds):
    moved = x.copy()
    for _ in range(steps):
        g = numpy_gradient(moved)
        if norm == "linf":
            moved = x + np.clip(moved + step * np.sign(g) - x, -epsilon, epsilon)
        else:
            moved = moved + step * g / np.linalg.norm(g, axis=1, keepdims=True)
            length = np.linalg.norm(moved - x, axis=1, keepdims=True)
            moved = x + (moved - x) * np.minimum(1, epsilon / np.maximum(length, 1e-30))
        moved = np.clip(moved, *bounds)
    return moved


INPUTS = jnp.asarray(X, jnp.float32), jnp.asarray(Y)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_both_attacks_follow_the_reference(norm):
    one = fgsm(loss, *INPUTS, epsilon=0.15, norm=norm)
    np.testing.assert_allclose(one, numpy_pgd(X, 0.15, 0.15, 1, norm, (0, 1)), atol=2e-6)
    many = pgd(loss, *INPUTS, epsilon=0.3, step_size=0.1, steps=5, norm=norm)
    np.testing.assert_allclose(many, numpy_pgd(X, 0.3, 0.1, 5, norm, (0, 1)), atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_loss_is_attacked_at_its_optimum(norm):
    w = jnp.asarray([1.0, -2.0, 0.0, 0.5])
    linear = lambda x, y: jnp.sum(x @ w)  # noqa: E731
    x = jnp.full((2, 4), 0.5)
    best = 0.5 + 0.2 * (jnp.sign(w) if norm == "linf" else w / jnp.linalg.norm(w))
    for got in (
        fgsm(linear, x, None, epsilon=0.2, norm=norm, bounds=None),
        pgd(linear, x, None, epsilon=0.2, step_size=0.1, steps=4, norm=norm, bounds=None),
    ):
        np.testing.assert_allclose(got, jnp.stack([best, best]), atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_random_start_stays_in_the_ball_and_in_range(norm):
    attack = functools.partial(pgd, loss, *INPUTS, epsilon=0.4, step_size=0.3, steps=2, norm=norm)
    one, again, other = (np.asarray(attack(key=jax.random.key(k))) for k in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    order = np.inf if norm == "linf" else 2
    lengths = np.linalg.norm(one - X, order, axis=1)
    assert lengths.max() <= 0.4 + 1e-6
    assert lengths.max() > 0.1
    assert one.min() >= 0
    assert one.max() <= 1


def test_a_saturated_network_is_left_alone():
    flat = lambda x, y: jnp.sum(0.0 * x)  # noqa: E731
    x = jnp.full((1, 3), 0.5)
    for norm in ("linf", "l2"):
        np.testing.assert_array_equal(fgsm(flat, x, None, epsilon=0.1, norm=norm), x)


def test_tiny_gradients_have_a_direction():
    tiny = lambda x, y: jnp.sum(x) * jnp.float32(1e-30)  # noqa: E731
    got = fgsm(tiny, jnp.zeros((1, 4)), None, epsilon=1.0, norm="l2")
    np.testing.assert_allclose(got, 0.5, atol=1e-6)


def test_accuracy_falls_under_attack():
    def predict(x):
        return jnp.tanh(x @ jnp.asarray(W, x.dtype)) @ jnp.asarray(V, x.dtype)

    x, _ = INPUTS
    y = jnp.argmax(predict(x), 1)
    assert accuracy_under(predict, x, y) == 1.0
    attacked = pgd(loss, x, y, epsilon=0.5, step_size=0.2, steps=5)
    assert accuracy_under(predict, attacked, y) < 1.0


def test_wrong_calls_are_sentences():
    with pytest.raises(ValueError, match=r"epsilon=-1.0 must not be negative"):
        fgsm(loss, *INPUTS, epsilon=-1.0)
    with pytest.raises(ValueError, match=r"steps=0 and step_size=0.1"):
        pgd(loss, *INPUTS, epsilon=0.1, step_size=0.1, steps=0)
    with pytest.raises(ValueError, match=r"a lower and an upper end"):
        fgsm(loss, *INPUTS, epsilon=0.1, bounds=(1.0, 0.0))
