"""Tangent kernels, path bounds and connectivity against the specification's perceptrons and brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wormjax import evaluation

HAND = [jnp.asarray(k, jnp.float32) for k in ([[1, 2], [-1, 1]], [[1, -1], [2, 0.5]])]
X = jnp.asarray([[1, 2], [2, -1]], jnp.float32)


def mlp(params, x):
    for kernel in params[:-1]:
        x = jax.nn.relu(x @ kernel)
    return x @ params[-1]


def random_mlp():
    rng = np.random.default_rng(0)
    sizes = (4, 5, 6, 3)
    kernels = [rng.normal(size=s) * np.sqrt(2 / s[0]) for s in itertools.pairwise(sizes)]
    return kernels, rng.normal(size=(7, 4))


def test_the_kernel_of_the_hand_mlp():  # specs, foresight 6.1
    expected = [[36, 5, 12, 0], [5, 17.25, 0, 12], [12, 0, 43, 0], [0, 12, 0, 24.25]]
    for block in (1, 2):
        np.testing.assert_allclose(evaluation.ntk(mlp, HAND, X, block=block), expected, rtol=1e-6)
    summed = evaluation.ntk(mlp, HAND, X, outputs="sum")
    np.testing.assert_allclose(summed, [[63.25, 24], [24, 67.25]], rtol=1e-6)
    found = evaluation.ntk_spectrum(np.asarray(expected))
    assert found.trace == 120.5
    assert found.condition == pytest.approx(found.largest / found.smallest)
    assert evaluation.ntk_spectrum(np.zeros((2, 2))).condition == float("inf")


def test_the_random_mlp_in_float64():  # specs, foresight 6.2
    kernels, x = random_mlp()
    with jax.enable_x64(True):
        params, inputs = [jnp.asarray(k) for k in kernels], jnp.asarray(x)
        spectrum = evaluation.ntk_spectrum(evaluation.ntk(mlp, params, inputs))
        bounds = evaluation.path_bounds(mlp, params, inputs)
    np.testing.assert_allclose(spectrum.eigenvalues[:3], [93.5429, 73.1864, 69.2054], rtol=1e-5)
    assert spectrum.trace == pytest.approx(291.7742433754, rel=1e-11)
    assert bounds.trace == pytest.approx(291.7742433754, rel=1e-11)
    assert bounds.per_output == pytest.approx(32278.08862499, rel=1e-11)
    assert bounds.frobenius == pytest.approx(96834.26587497, rel=1e-11)


def test_the_estimate_agrees_with_the_trace():
    found = evaluation.ntk_trace_estimate(mlp, HAND, X, jax.random.key(0), probes=200)
    assert abs(found.mean - 120.5) < 4 * found.error
    assert found.error < 12
    with pytest.raises(ValueError, match="probes must be at least 1"):
        evaluation.ntk_trace_estimate(mlp, HAND, X, jax.random.key(0), probes=0)


def test_a_masked_kernel_is_that_of_what_is_left():
    masks = [jnp.asarray([[1, 1], [0, 1]], bool), jnp.asarray([[1, 0], [1, 1]], bool)]
    dense = evaluation.ntk(mlp, [jnp.where(m, w, 0) for w, m in zip(HAND, masks, strict=True)], X)
    masked = evaluation.ntk(mlp, HAND, X, masks=masks)
    # the gradient in pruned weights is missing
    assert float(jnp.trace(masked)) < float(jnp.trace(dense))
    bounds = evaluation.path_bounds(mlp, HAND, X, masks=masks)
    assert bounds.trace == pytest.approx(float(jnp.trace(masked)), rel=1e-6)
    assert bounds.trace <= bounds.per_output <= bounds.frobenius


def residual(params, x):
    x = x @ params["in"]
    x = x + jax.nn.relu(x @ params["a"]) @ params["b"]
    return x @ params["out"]


def some_masks(**pruned):
    shapes = {"a": (3, 2), "b": (2, 3), "in": (2, 3), "out": (3, 2)}
    params = {k: jnp.ones(s) for k, s in shapes.items()}
    masks = {k: jnp.asarray(pruned.get(k, np.ones(s)), bool) for k, s in shapes.items()}
    return params, masks


def test_an_emptied_branch_is_told_from_collapse():
    params, masks = some_masks(a=np.zeros((3, 2)))
    found = evaluation.connectivity(residual, params, X, masks=masks)
    assert (found.emptied, found.collapsed) == (["a"], False)
    assert found.leaves["b"].kept == 6
    assert found.leaves["b"].effective == 0  # nothing reaches it
    np.testing.assert_allclose(found.log2_paths, np.log2([6, 6]))
    params, masks = some_masks(out=np.zeros((3, 2)))
    found = evaluation.connectivity(residual, params, X, masks=masks)
    assert (found.emptied, found.collapsed) == (["out"], True)
    assert (found.log2_paths == -np.inf).all()
    # every leaf keeps something, and yet no path is whole
    params, masks = some_masks(**{"in": [[1, 0, 0], [0, 0, 0]], "a": np.zeros((3, 2))})
    masks["out"] = jnp.asarray([[0, 0], [1, 1], [1, 1]], bool)
    found = evaluation.connectivity(residual, params, X, masks=masks)
    assert found.collapsed
    assert found.leaves["out"].density == 4 / 6


def test_paths_and_channels_against_brute_force():
    rng = np.random.default_rng(3)
    params, masks = some_masks(
        a=rng.random((3, 2)) < 0.6, out=rng.random((3, 2)) < 0.6, **{"in": rng.random((2, 3)) < 0.6}
    )
    m = {k: np.asarray(v, float) for k, v in masks.items()}
    paths = m["in"] @ (np.eye(3) + m["a"] @ m["b"]) @ m["out"]
    found = evaluation.connectivity(residual, params, X, masks=masks)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(found.log2_paths, np.log2(paths.sum(axis=0)), rtol=1e-6)
    through = (m["in"].sum(axis=0)[:, None] * (m["b"] @ m["out"]).sum(axis=1)[None]) * m["a"]
    assert found.leaves["a"].effective == (through > 0).sum()
    assert found.leaves["a"].effective_channels == (through > 0).any(axis=0).sum()
