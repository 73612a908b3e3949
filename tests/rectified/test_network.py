"""The interpreter: rectifiers in every spelling, what is no path, ranges that no dtype holds, and refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wormjax.rectified import network, times_power

W0 = np.array([[1.0, 2.0], [-1.0, 1.0]], np.float32)
W1 = np.array([[1.0, -1.0], [2.0, 0.5]], np.float32)
X = np.array([[1.0, 2.0], [2.0, -1.0]], np.float32)

SPELLINGS = {
    "relu": jax.nn.relu,
    "maximum": lambda z: jnp.maximum(z, 0.0),
    "maximum, number first": lambda z: jnp.maximum(0.0, z),
    "where": lambda z: jnp.where(z > 0, z, 0.0),
    "where, the other way": lambda z: jnp.where(z <= 0, 0.0, z),
    "where, number first": lambda z: jnp.where(z > 0.0, z, 0.0),
    "product": lambda z: z * (z > 0).astype(z.dtype),
    "remat": jax.checkpoint(jax.nn.relu),
    "jit": jax.jit(lambda z: jax.nn.relu(z)),
}


def of(activation):
    return lambda p, x: activation(x @ p[0]) @ p[1]


def runs(apply, params, x, **options):
    """Return the output, g on squared inputs and h on ones, of a network of kernels alone."""

    def all_three(params, x):
        net = network(apply, params, x, range(len(params)))
        output, gates = net.record(params, x)
        ones = [jnp.ones_like(w) for w in params]
        g, e = net.paths(ones, x**2, gates=gates)
        h, f = net.paths([w**2 for w in params], jnp.ones_like(x), **options)
        return output, times_power(g, e), times_power(h, f)

    return jax.jit(all_three)(params, x)


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_of_a_rectifier(name):
    apply = of(SPELLINGS[name])
    output, g, h = runs(apply, [W0, W1], X)
    np.testing.assert_allclose(output, [[8, 2], [9, -1.5]], rtol=1e-6)
    np.testing.assert_allclose(g, [[5, 5], [10, 10]], rtol=1e-6)
    np.testing.assert_allclose(h, [[22, 3.25]] * 2, rtol=1e-6)


def test_a_leaky_path_carries_its_slope():
    output, g, h = runs(of(functools.partial(jax.nn.leaky_relu, negative_slope=0.25)), [W0, W1], X)
    z = X @ W0
    slope = np.where(z >= 0, 1, 0.25)
    np.testing.assert_allclose(output, (z * slope) @ W1, rtol=1e-6)
    np.testing.assert_allclose(g, (X**2 @ np.ones((2, 2)) * slope) @ np.ones((2, 2)), rtol=1e-6)
    np.testing.assert_allclose(h, [[22, 3.25]] * 2, rtol=1e-6)


def test_a_slope_may_be_made_of_decisions():
    def activation(z):
        return z * ((z >= 0).astype(z.dtype) + 0.25 * (z < 0).astype(z.dtype))

    output, g, h = runs(of(activation), [W0, W1], X)
    slope = np.where(X @ W0 >= 0, 1, 0.25)
    np.testing.assert_allclose(output, (X @ W0 * slope) @ W1, rtol=1e-6)
    np.testing.assert_allclose(g, (X**2 @ np.ones((2, 2)) * slope) @ np.ones((2, 2)), rtol=1e-6)
    np.testing.assert_allclose(h, [[22, 3.25]] * 2, rtol=1e-6)


def test_a_saturated_rectifier_is_shut():
    output, g, _ = runs(of(lambda z: jax.nn.relu6(2 * z) * 0.5), [W0, W1], X)
    z = 2 * (X @ W0)
    open_ = (z > 0) & (z < 6)
    np.testing.assert_allclose(output, np.clip(z, 0, 6) / 2 @ W1, rtol=1e-6)
    np.testing.assert_allclose(g, (X**2 @ np.ones((2, 2)) * open_) @ np.ones((2, 2)), rtol=1e-6)


def test_a_scanned_stack_of_layers_is_the_written_one():
    stack = np.stack([W0, W1, W0])

    def scanned(p, x):
        return jax.lax.scan(lambda c, w: (jax.nn.relu(c @ w), None), x, p[0])[0]

    def written(p, x):
        for w in p:
            x = jax.nn.relu(x @ w)
        return x

    for a, b in zip(runs(scanned, [stack], X), runs(written, list(stack), X), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def normalised(x, scale, shift, mean, var):
    return (x - mean) * (jax.lax.rsqrt(var + 0.5) * scale) + shift


def test_what_is_no_path_is_left_out():
    mean, var = np.array([[0.3, -2.0]], np.float32), np.array([[3.5, 0.5]], np.float32)

    def apply(p, x):
        x = normalised(x @ p["w"], p["scale"][None], p["shift"][None], mean, var)
        return -(jax.nn.relu(x) @ p["v"]) - p["bias"][None]

    params = {"bias": W0[0], "scale": W0[0], "shift": W0[1], "v": W1**2, "w": W0**2}
    net = network(apply, params, X[:1], [3, 4])  # dict order: bias, scale, shift, v, w
    ones = np.ones((1, 2), np.float32)
    for factor, of_scale in (
        (None, [1, 1]),
        (jnp.square, W0[0] ** 2 / (var[0] + 0.5)),
        (jnp.abs, np.abs(W0[0]) / np.sqrt(var[0] + 0.5)),
    ):
        run = jax.jit(functools.partial(net.paths, factor=factor))
        h, e = run(params, ones)
        expected = (ones @ W0**2 * np.asarray(of_scale)) @ W1**2
        np.testing.assert_allclose(h * 2.0 ** int(e), expected, rtol=1e-6)


def batch_statistics(x):  # Flax's variance in training mode
    mean = jnp.mean(x, axis=0)
    return mean[None], jnp.maximum(0.0, jnp.mean(jnp.square(x), axis=0) - jnp.square(mean))[None]


def layer_statistics(x):
    mean = jnp.mean(x, axis=-1, keepdims=True)
    return mean, jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)


def group_statistics(x):  # Flax's GroupNorm: statistics of a reshaped signal, repeated
    groups = x.reshape(x.shape[0], 1, 2)
    mean = jnp.mean(groups, axis=2)
    var = jnp.mean(jnp.square(groups), axis=2) - jnp.square(mean)
    return jnp.repeat(mean, 2, axis=1), jnp.repeat(var, 2, axis=1)


def root_mean_square(x):
    return jnp.zeros_like(x[:, :1]), jnp.mean(x * x, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    "statistics", [batch_statistics, layer_statistics, group_statistics, root_mean_square]
)
def test_a_normalisation_by_its_own_input_is_left_out(statistics):
    def apply(p, x):
        x = x @ p[0]
        mean, var = statistics(x)
        return jax.nn.relu((x - mean) / jnp.sqrt(var + 0.5)) @ p[1]

    output, g, h = runs(apply, [W0, W1], X)
    z = X.astype(np.float64) @ W0
    mean, var = (np.asarray(s, np.float64) for s in statistics(jnp.asarray(z, jnp.float32)))
    z = (z - mean) / np.sqrt(var + 0.5)
    np.testing.assert_allclose(output, np.maximum(z, 0) @ W1, rtol=1e-4)
    np.testing.assert_allclose(g, (X**2 @ np.ones((2, 2)) * (z > 0)) @ np.ones((2, 2)), rtol=1e-5)
    np.testing.assert_allclose(h, [[22, 3.25]] * 2, rtol=1e-6)


def test_nothing_overflows_and_branches_keep_their_proportion():
    # 5 blocks x -> x + 2^60 (x W W) with W of ones, 8 wide: about 2^330; Python's integers are exact
    w = np.ones((8, 8), np.float32)

    def apply(p, x):
        for _ in range(5):
            x = x + (x @ p[0]) @ p[0] * 2.0**60
        return x

    params, x = [w], np.ones((1, 8), np.float32)
    net = network(apply, params, x, [0])
    h, e = jax.jit(net.paths)(params, x)
    exact = (1 + 64 * 2**60) ** 5
    assert int(e) + int(np.log2(float(h[0, 0]))) == exact.bit_length() - 1
    np.testing.assert_allclose(float(h[0, 0]), exact / 2 ** int(e), rtol=1e-5)


def test_max_pooling_stays_a_maximum_and_padding_is_no_path():
    def apply(p, x):
        x = jax.nn.relu(x @ p[0])
        x = jnp.pad(x, ((0, 0), (0, 1)), constant_values=5.0)
        return jnp.max(x, axis=1, keepdims=True)

    _, g, h = runs(apply, [W0], X)
    np.testing.assert_allclose(h, np.max(W0**2 * 1, axis=0).max() * 0 + [[5.0]] * 2)
    np.testing.assert_allclose(g, [[5.0], [5.0]])


def attention(x):
    return jax.nn.softmax(x @ x.T) @ x


@pytest.mark.parametrize(
    ("activation", "primitive"),
    [
        (jax.nn.gelu, "'integer_pow'"),
        (jax.nn.silu, "'logistic'"),
        (jnp.tanh, "'tanh'"),
        (attention, "'dot_general'"),
        (lambda x: x * jnp.mean(x, axis=-1, keepdims=True), "'mul'"),
    ],
)
def test_what_is_not_piecewise_linear_is_named_with_its_line(activation, primitive):
    net = network(of(activation), [W0, W1], X, [0, 1])
    for run in (net.record, net.paths):
        with pytest.raises(ValueError, match="not piecewise linear") as error:
            jax.eval_shape(run, [W0, W1], X)
        assert primitive in str(error.value)
        assert "test_network.py:" in str(error.value)


def test_what_the_output_does_not_need_may_be_anything():
    def apply(p, x):
        z = x @ p[0]
        _ = jnp.tanh(z)
        return jax.nn.relu(z) @ p[1]

    _, _, h = runs(apply, [W0, W1], X)
    np.testing.assert_allclose(h, [[22, 3.25]] * 2)


def test_wrong_outputs_and_gates_are_refused():
    with pytest.raises(ValueError, match="returned a tuple"):
        network(lambda p, x: (x, x), [W0], X, [0])
    constant = network(lambda p, x: p[0], [W0], X, [0])
    with pytest.raises(ValueError, match="does not depend on its inputs"):
        constant.record([W0], X)
    net = network(of(jax.nn.relu), [W0, W1], X, [0, 1])
    gate = jnp.ones((2, 2), bool)
    for gates in ((gate[:1],), (), (gate, gate)):
        if gates:
            with pytest.raises(ValueError, match="stored decisions"):
                jax.eval_shape(functools.partial(net.paths, gates=gates), [W0, W1], X)


def test_an_exception_leaves_nothing_behind():  # defect 5: patched functions of a framework
    net = network(of(jnp.tanh), [W0, W1], X, [0, 1])
    with pytest.raises(ValueError):
        jax.eval_shape(net.record, [W0, W1], X)
    output, _, _ = runs(of(jax.nn.relu), [W0, W1], X)
    np.testing.assert_allclose(output, [[8, 2], [9, -1.5]], rtol=1e-6)
