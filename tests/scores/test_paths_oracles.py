"""The specification's perceptrons: PX, SynFlow-L2 and their kin against numbers worked out by hand and by NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wormjax import scores

# specs, foresight 6.1: rows are inputs, columns outputs
HAND = [[[1, 2], [-1, 1]], [[1, -1], [2, 0.5]]]
HAND_X = [[1, 2], [2, -1]]
NO_DATA = [[[1, 1], [1, 1]], [[1, 0], [1, 1]]]  # W1[0, 1] is pruned


def mlp(params, x):
    for kernel in params[:-1]:
        x = jax.nn.relu(x @ kernel)
    return x @ params[-1]


def hand():
    return [jnp.asarray(k, jnp.float32) for k in HAND], [jnp.asarray(HAND_X, jnp.float32)]


def jitted(score, params, data, **options):
    """Call a score in one compiled program: operation by operation, each would be compiled apart."""
    return jax.jit(lambda p, d: score(p, d, **options))(params, data)


def equal(tree, expected):
    for leaf, table in zip(tree, expected, strict=True):
        np.testing.assert_allclose(leaf, table, rtol=1e-6)


HAND_SCORES = {
    "px": (scores.px, {}, [[[30, 255], [30, 63.75]], [[30, 30], [300, 18.75]]]),
    "synflow_l2": (scores.synflow_l2, {}, [[[2, 17], [2, 4.25]], [[2, 2], [20, 1.25]]]),
    "synflow_l2_ref_theta": (
        scores.synflow_l2,
        {"form": "ref_theta"},
        [[[2, 8.5], [2, 4.25]], [[2, 2], [10, 2.5]]],
    ),
    "px_exact": (scores.px_exact, {}, [[[8, 85], [2, 21.25]], [[9, 9], [100, 6.25]]]),
    "px_exact_sum": (
        scores.px_exact,
        {"outputs": "sum"},
        [[[0, 125], [0, 31.25]], [[9, 9], [100, 6.25]]],
    ),
    "px_gated": (scores.px_gated, {}, [[[8, 85], [2, 21.25]], [[5, 5], [100, 6.25]]]),
}


@pytest.mark.parametrize("name", HAND_SCORES)
def test_hand_mlp(name):
    score, options, expected = HAND_SCORES[name]
    params, batches = hand()
    data = batches[0] if score is scores.synflow_l2 else batches
    equal(jitted(score, params, data, apply=mlp, **options), expected)


def test_data_matter_once_the_head_is_masked():
    params, batches = hand()
    masks = [jnp.asarray(m, bool) for m in NO_DATA]
    tree = jitted(scores.px, params, batches, apply=mlp, masks=masks)
    equal(tree, [[[15, 250], [15, 62.5]], [[30, 0], [300, 12.5]]])
    assert [float(jnp.sum(s)) for s in tree] == [342.5, 342.5]
    other = jitted(scores.synflow_l2, params, batches[0], apply=mlp, masks=masks)
    equal(other, [[[1, 17], [1, 4.25]], [[2, 0], [20, 1.25]]])


def test_a_shortcut_belongs_to_no_branch():
    # y = c (b relu(a x) + x), a^2 = 4, b^2 = 9, c^2 = 1, x = 1
    def residual(params, x):
        return params["c"] * (params["b"] * jax.nn.relu(params["a"] * x) + x)

    params = {"a": 2.0, "b": 3.0, "c": 1.0}
    params = {k: jnp.full((1, 1), v) for k, v in params.items()}
    batches = [jnp.zeros((1, 1)), jnp.ones((1, 1))]
    tree = jitted(scores.px, params, batches, apply=residual)
    assert {k: float(v[0, 0]) for k, v in tree.items()} == {"a": 72, "b": 72, "c": 74}


def random_mlp():
    """Return kernels and inputs of the specification's 4-5-6-3 perceptron, float64."""
    rng = np.random.default_rng(0)
    sizes = (4, 5, 6, 3)
    kernels = [rng.normal(size=s) * np.sqrt(2 / s[0]) for s in itertools.pairwise(sizes)]
    x = rng.normal(size=(7, 4))
    assert abs(kernels[0][0, 0] - 0.0889046919) < 1e-10
    assert abs(x[0, 0] - 0.6333526228) < 1e-10
    return kernels, x


@pytest.mark.parametrize(
    "wide",
    [pytest.param(False, id="float32", marks=pytest.mark.slow), pytest.param(True, id="float64")],
)
def test_random_mlp(wide):
    kernels, x = random_mlp()
    rtol = 1e-12 if wide else 2e-6
    with jax.enable_x64(wide):
        dtype = jnp.float64 if wide else jnp.float32
        params, batch = [jnp.asarray(k, dtype) for k in kernels], jnp.asarray(x, dtype)
        tree = jitted(scores.px, params, [batch[:3], batch[3:]], apply=mlp)
        assert tree[0].dtype == dtype
        tree, plain = (
            [np.asarray(s) for s in tree],
            jitted(scores.synflow_l2, params, batch, apply=mlp),
        )
        plain = [np.asarray(s) for s in plain]
    for layer in tree:  # equal layer sums
        np.testing.assert_allclose(layer.sum(), 3498.2868073090, rtol=max(rtol, 1e-11))
    for layer in plain:
        np.testing.assert_allclose(layer.sum(), 13.0826345175, rtol=max(rtol, 1e-10))
    for layer, place, value in zip(
        tree, [(1, 4), (4, 4), (4, 0)], [880.5064, 885.3325, 1178.2982], strict=True
    ):
        assert np.unravel_index(layer.argmax(), layer.shape) == place
        np.testing.assert_allclose(layer[place], value, rtol=1e-6)
    # w_k = 267.3992614117 for all k: the ranking is that of SynFlow-L2
    for layer, control in zip(tree, plain, strict=True):
        np.testing.assert_allclose(layer, 267.3992614117 * control, rtol=max(rtol, 1e-11))


def test_px_v2024_and_px_differ_on_the_hand_mlp():  # defect 6: the first release
    params, batches = hand()
    tree = jitted(scores.px, params, batches, apply=mlp, mode="v2024")
    # by hand: g = f(x) = z1; h = x theta^2 with open gates; S = |grad| |theta|^5
    x, w0, w1 = np.array(HAND_X, float), np.array(HAND[0], float), np.array(HAND[1], float)
    z1 = np.maximum(x @ w0, 0) @ w1
    d1 = (x @ w0**2).T @ z1
    d0 = x.T @ (z1 @ (w1**2).T)
    equal(tree, [np.abs(d0) * np.abs(w0) ** 5, np.abs(d1) * np.abs(w1) ** 5])
    paper = jitted(scores.px, params, batches, apply=mlp)
    assert not np.allclose(tree[1] / tree[1].sum(), paper[1] / paper[1].sum(), rtol=0.1)


def test_px_ref_head_on_the_hand_mlp():
    params, batches = hand()
    tree = jitted(scores.px, params, batches, apply=mlp, mode="ref_head")
    x, w0, w1 = np.array(HAND_X, float), np.array(HAND[0], float), np.array(HAND[1], float)
    gates = x @ w0 > 0
    g = ((x**2 @ np.ones((2, 2))) * gates) @ w1
    ones = np.ones((2, 2))
    d0 = ones.T @ (g @ w1.T)
    d1 = (ones @ w0**2).T @ g
    equal(tree, [np.abs(d0) * w0**2, np.abs(d1) * w1**2])
    raw = jitted(scores.px, params, batches, apply=mlp, head="raw")
    equal(raw, tree)  # one batch-independent h: the same sums in another order


def test_px_jan2025_squares_the_gradient_of_each_batch():
    params, batches = hand()
    [x] = batches
    tree = jitted(scores.px, params, [x[:1], x[1:]], apply=mlp, mode="jan2025")
    # of the paper's form, batch by batch: S_b = theta^2 dR_b, so the sum of S_b^2 / theta^2
    each = [jitted(scores.px, params, [b], apply=mlp) for b in (x[:1], x[1:])]
    expected = [sum(np.asarray(e[i]) ** 2 for e in each) / np.asarray(HAND[i]) ** 2 for i in (0, 1)]
    equal(tree, expected)
