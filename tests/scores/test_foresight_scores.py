"""GraSP, IterSNIP and NTK-SAP against the specification's quadratics, NumPy, and what they must not depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wormjax import scores
from wormjax.scores._batches import check_batches
from wormjax.scores._ntk_sap import _change
from wormjax.scores._protocol import is_kernel, lay_out

# specs, foresight 6.3: L = 1/2 theta' A theta at theta = (1, 1)
A = np.array([[2.0, -1.0], [-1.0, 1.0]], np.float32)
THETA = {"theta": jnp.ones((1, 2))}
MASK = {"theta": jnp.array([[True, False]])}


def row(params, x=None):
    return params["theta"]


def quadratic(outputs, labels=None):
    return 0.5 * outputs[0] @ jnp.asarray(A) @ outputs[0]


@pytest.mark.parametrize(
    ("masks", "snip", "iter_snip", "grasp"),
    [(None, [1, 0], [1, 0], [2, -1]), (MASK, [2, 1], [2, 0], [4, 0])],
)
def test_the_quadratic(masks, snip, iter_snip, grasp):
    def all_three(params):
        loss = lambda p, b: quadratic(row(p))  # noqa: E731
        return (
            scores.snip(params, None, loss=loss, masks=masks),
            scores.iter_snip(params, None, loss=loss, masks=masks),
            scores.grasp(
                params, [(None, None)], apply=row, loss=quadratic, temperature=1.0, masks=masks
            ),
        )

    found = [tree["theta"][0].tolist() for tree in jax.jit(all_three)(THETA)]
    assert found == [snip, iter_snip, grasp]


def test_grasp_of_a_linear_softmax_in_numpy():
    # defect 8: gradient and Hessian see the same batches, in whatever order they come
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(3, 4)), rng.normal(size=(6, 3))
    labels = np.array([0, 1, 2, 3, 0, 1])
    t = 2.0
    z = np.exp(x @ w / t)
    p = z / z.sum(axis=1, keepdims=True)
    n = 3  # examples a batch: the sum of two means over three
    g = x.T @ (p - np.eye(4)[labels]) / n / t
    d = x @ g / t  # the change of the cooled logits along g
    h = x.T @ (p * d - p * (p * d).sum(axis=1, keepdims=True)) / n / t
    params = {"kernel": jnp.asarray(w, jnp.float32)}
    halves = [
        (jnp.asarray(x[i], jnp.float32), jnp.asarray(labels[i])) for i in ([0, 1, 2], [3, 4, 5])
    ]

    @jax.jit
    def both(params):
        return [
            scores.grasp(params, b, apply=lambda p, x: x @ p["kernel"], temperature=t)["kernel"]
            for b in (halves, halves[::-1])
        ]

    first, second = both(params)
    np.testing.assert_allclose(first, w * h, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-7)


def test_wrong_calls_of_grasp():
    with pytest.raises(ValueError, match="temperature is 0"):
        scores.grasp(THETA, [(None, None)], apply=row, temperature=0.0)
    with pytest.raises(ValueError, match="no batch"):
        scores.grasp(THETA, [], apply=row)


def linear(params, x):
    return x @ params["kernel"]


@pytest.mark.parametrize("weights", [(1.0, 1.0), (-3.0, 0.5)])
def test_the_change_of_a_linear_output(weights):  # specs, foresight 6.3: any theta
    params = {"kernel": jnp.asarray(weights)[:, None]}
    moves = {0: jnp.asarray([[0.1], [0.2]])}
    layout = lay_out(params, None, is_kernel)
    change = _change(linear, None, layout, params, jnp.ones((1, 2)), moves)
    value, slope = jax.jit(jax.value_and_grad(change))({0: jnp.ones((2, 1))})
    assert value == pytest.approx(0.09, rel=1e-5)
    np.testing.assert_allclose(slope[0][:, 0], [0.06, 0.12], rtol=1e-5)


def test_no_perturbation_changes_nothing():  # defect 15: base and copy share weights and statistics
    params = {"kernel": jnp.asarray([[1.0, -2.0], [0.5, 3.0]]), "scale": jnp.asarray([2.0, 3.0])}

    def apply(p, x, settled):
        return (x @ p["kernel"] - settled) * p["scale"][None]

    def settle(p, x):
        return jnp.mean(x @ p["kernel"], axis=0, keepdims=True)

    def score(params, epsilon):
        batches = [jnp.ones((4, 2)), jnp.ones((4, 2))]
        masks = {"kernel": jnp.asarray([[True, True], [False, True]]), "scale": jnp.array(True)}
        return scores.ntk_sap(
            params,
            batches,
            jax.random.key(0),
            apply=apply,
            settle=settle,
            epsilon=epsilon,
            masks=masks,
        )["kernel"]

    compiled = jax.jit(score, static_argnums=1)
    assert (compiled(params, 0.0) == 0).all()
    found = compiled(params, 0.01)
    assert found[1, 0] == 0  # masked
    assert (np.delete(found.ravel(), 2) > 0).all()
    # neither the weights nor the data matter: all are drawn anew
    np.testing.assert_array_equal(found, compiled(jax.tree.map(lambda w: 2 * w, params), 0.01))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"resamples": 0}, "resamples must be at least 1"), ({"batches": []}, "There is no batch")],
)
def test_wrong_calls_of_ntk_sap(change, sentence):
    call = {"batches": [jnp.ones((1, 2))], "key": jax.random.key(0), "apply": linear}
    with pytest.raises(ValueError, match=sentence):
        scores.ntk_sap({"kernel": jnp.ones((2, 1))}, **(call | change))


def test_wrong_calls_of_px():
    params = {"kernel": jnp.ones((2, 1))}
    with pytest.raises(ValueError, match="batches is one array of shape"):
        check_batches(jnp.ones((3, 2)))
    with pytest.raises(ValueError, match="the pruning set is empty"):
        scores.px(params, [], apply=linear)
    with pytest.raises(ValueError, match="dtype int32"):
        scores.px(params, [jnp.ones((3, 2), jnp.int32)], apply=linear)
    with pytest.raises(ValueError, match="No path of weights"):
        scores.synflow_l2({"kernel": jnp.zeros((2, 1))}, jnp.ones((3, 2)), apply=linear)
    with pytest.raises(ValueError, match="pairs \\(inputs, labels\\)"):
        scores.px_exact(params, [jnp.ones((3, 2))], apply=linear, outputs="label")
