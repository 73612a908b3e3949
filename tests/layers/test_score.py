"""Block scores: the specification's vectors, and oracles written without our own functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cross_decomposition import PLSRegression

from wormjax import layers, scores
from wormjax.evaluation import linear_cka
from wormjax.layers._pls import variable_importance
from wormjax.layers._trained import _pooled, divergence

# per-weight |theta g|: block A has kernels (1, 2) and (3), block B (4) and (1)
PER_WEIGHT = {
    "a": {"one": jnp.array([[1.0, 2.0]]), "two": jnp.array([[3.0]])},
    "b": {"one": jnp.array([[4.0]]), "two": jnp.array([[1.0]])},
}


def two_blocks(params, x):
    x = x + jnp.tanh(x @ params["a"]["one"]).sum(-1, keepdims=True) @ params["a"]["two"]
    return x + jnp.tanh(x @ params["b"]["one"]) @ params["b"]["two"]


@pytest.mark.parametrize(
    ("aggregate", "a", "b", "removed"), [("sum", 6.0, 5.0, "b"), ("mean", 2.0, 2.5, "a")]
)
def test_sum_and_mean_order_blocks_differently(aggregate, a, b, removed):
    found = layers.candidates(two_blocks, PER_WEIGHT, jnp.ones((2, 1)))
    got = layers.score(found, PER_WEIGHT, aggregate)
    assert got == {"a": a, "b": b}
    assert layers.select(found, got, 1) == [removed]


def test_a_step_of_a_scan_has_the_scores_of_its_row(scanned):
    apply, params, x = scanned
    found = layers.candidates(apply, params, x)
    got = layers.score(found, scores.magnitude(params))
    want = [
        float(sum(np.abs(params["blocks"][k][t]).sum() for k in ("up", "down"))) for t in range(4)
    ]
    np.testing.assert_allclose(list(got.values()), want, rtol=1e-6)


A = jnp.array([[2.0, -1.0], [-1.0, 1.0]])


def quadratic(params, batch):
    theta = jnp.concatenate([params["one"].ravel(), params["two"].ravel()])
    return 0.5 * theta @ A @ theta + 0.0 * batch


def test_init_scores_on_a_quadratic():
    # L = theta' A theta / 2 at (1, 1): g = (1, 0), H g = (2, -1)
    params = {"one": jnp.ones((1, 1)), "two": jnp.ones((1, 1))}
    apply = lambda params, x: quadratic(params, x)  # noqa: E731
    first = lambda tree: [float(v[0, 0]) for v in tree.values()]  # noqa: E731

    @jax.jit
    def scored(params):
        return (
            scores.snip(params, 0.0, loss=quadratic),
            layers.signed_snip(params, 0.0, loss=quadratic),
            scores.grasp(
                params,
                [(jnp.float32(0.0), None)],
                apply=apply,
                loss=lambda out, _: out,
                temperature=1.0,
            ),
        )

    snip, signed, hessian = scored(params)
    assert first(snip) == [1.0, 0.0]
    assert first(signed) == [1.0, 0.0]
    assert first(hessian) == [2.0, -1.0]


def test_l1_is_the_mean_of_filters_added_over_kernels(chain):
    apply, params, x = chain
    found = layers.candidates(apply, params, x)
    block = params["blocks"][0]
    want = np.abs(block["up"]).sum(0).mean() + np.abs(block["down"]).sum(0).mean()
    assert layers.l1(found, params)["blocks/0"] == pytest.approx(float(want), rel=1e-6)


def test_random_scores_are_a_function_of_the_key(chain):
    apply, params, x = chain
    found = layers.candidates(apply, params, x)
    one, again, other = (layers.random(found, jax.random.key(k)) for k in (0, 0, 1))
    assert one == again != other


def test_select_is_deterministic_and_refuses(chain):
    apply, params, x = chain
    found = layers.candidates(apply, params, x)
    equal = dict.fromkeys(found.names, 1.0)
    assert layers.select(found, equal, 2) == ["blocks/0", "blocks/1"]  # ties go by index
    assert layers.select(found, equal, fraction=0.5) == ["blocks/0", "blocks/1"]
    assert layers.select(found, equal, fraction="0.37") == ["blocks/0"]
    assert len(layers.select(found, equal, 4, min_blocks_per_stage=0)) == 4
    with pytest.raises(TypeError, match=r"p=1.0 is a float.*pass fraction="):
        layers.select(found, equal, 1.0)
    with pytest.raises(TypeError, match=r"p=True is a bool"):
        layers.select(found, equal, True)
    with pytest.raises(ValueError, match=r"exactly one of p= and fraction="):
        layers.select(found, equal)
    with pytest.raises(ValueError, match=r"4 blocks cannot be removed: of 4 candidates 3 can go"):
        layers.select(found, equal, 4)
    with pytest.raises(ValueError, match=r"no number for the candidate 'blocks/2'"):
        layers.select(found, equal | {"blocks/2": float("nan")}, 1)
    with pytest.raises(ValueError, match=r"fraction must lie in \[0, 1\]"):
        layers.select(found, equal, fraction=1.5)


def test_scores_that_say_nothing_of_a_block_are_refused(chain):
    apply, params, x = chain
    found = layers.candidates(apply, params, x)
    nothing = jax.tree.map(lambda _: jnp.asarray(jnp.inf), params)
    with pytest.raises(ValueError, match=r"rank no parameter of the block 'blocks/0'"):
        layers.score(found, nothing)


# what a trained network computes


def maps_apply(params, x):
    """Two blocks that add fixed maps, scaled by a parameter: the stream is known."""
    x = x + params["a"] * jnp.tanh(x)
    return x + params["b"] * jnp.tanh(x)


@pytest.fixture(scope="module")
def maps():
    outer = np.outer([1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 1.0, 0.0])
    x = jnp.asarray(np.stack([outer, np.eye(4)], -1)[None], jnp.float32)  # [1, 4, 4, 2]
    params = {"a": jnp.zeros((1, 1, 1, 1)), "b": jnp.full((1, 1, 1, 1), -2.0)}
    return layers.candidates(maps_apply, params, x), params, x


def test_hrank_and_expected_absolute_value(maps):
    found, params, x = maps
    assert found.names == ["a", "b"]
    ranks = layers.hrank(found, params, [x])
    assert ranks["a"] == pytest.approx((1 / 4 + 1) / 2)  # rank one of four, and full rank
    means = layers.expect_abs(found, params, [x, x], activation=None)
    stream = np.asarray(x, np.float64)
    assert means["a"] == pytest.approx(np.abs(stream).mean(), rel=1e-6)
    assert means["b"] == pytest.approx(np.abs(stream - 2 * np.tanh(stream)).mean(), rel=1e-6)


def test_hrank_needs_maps(chain):
    apply, params, x = chain
    with pytest.raises(ValueError, match=r"hrank looks at maps \[N, H, W, C\]"):
        layers.hrank(layers.candidates(apply, params, x), params, [x])


def test_divergence_has_the_direction_of_the_code_it_follows():
    whole, off = np.array([[0.5, 0.25, 0.25]]), np.array([[0.25, 0.5, 0.25]])
    assert divergence(np.log(whole), np.log(off)) == pytest.approx(0.1732868, abs=1e-7)
    twice = [np.log(np.exp(p) / np.exp(p).sum()) for p in (whole, off)]
    assert divergence(*twice) == pytest.approx(0.0216217, abs=1e-7)


@pytest.mark.parametrize("double", [False, True])
def test_kl_of_every_block_against_numpy(chain, double):
    apply, params, x = chain
    found = layers.candidates(apply, params, x)
    got = layers.kl(found, params, [x], double_softmax=double)

    def forward(off):
        z = np.asarray(x, np.float64)
        for k, p in enumerate(params["blocks"]):
            up, bias, down = (np.asarray(p[n], np.float64) for n in ("up", "bias", "down"))
            z = z + (k != off) * (np.tanh(z @ up + bias) @ down)
        logits = z @ np.asarray(params["head"], np.float64)
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        return np.exp(p) / np.exp(p).sum(-1, keepdims=True) if double else p

    p, q = forward(None), forward(2)
    want = np.mean(np.sum(q * np.log(q / p), -1))
    assert got["blocks/2"] == pytest.approx(want, rel=1e-3)
    assert min(got.values()) >= 0


def test_cka_and_kl_leave_the_parameters_alone(chain):
    apply, params, x = chain
    found = layers.candidates(apply, params, x)
    before = jax.tree.map(np.array, params)
    with pytest.raises(ValueError, match=r"Find them on inputs of the shape"):
        layers.kl(found, params, [x[:1]])
    got = layers.cka(found, params, [x])
    jax.tree.map(np.testing.assert_array_equal, before, params)
    assert all(0 <= v <= 1 for v in got.values())
    zeroed = {**params, "blocks": [{**p, "down": 0 * p["down"]} for p in params["blocks"]]}
    assert layers.cka(found, zeroed, [x])["blocks/1"] == pytest.approx(0, abs=1e-12)


def test_linear_cka_vectors():
    x, y = np.array([[1.0, 0], [0, 1], [2, 1]]), np.array([[1.0, 2], [0, 1], [1, 0]])
    assert linear_cka(np.array([[1.0], [2], [3]]), np.array([[1.0], [3], [2]])) == pytest.approx(
        0.25
    )
    assert linear_cka(x, y) == pytest.approx(0.7)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert linear_cka(x, 3 * x @ turn) == pytest.approx(1.0)
    wide = np.random.default_rng(0).normal(size=(4, 9))  # more features than examples
    direct = wide - wide.mean(0), y.repeat(2, 0)[:4] - y.repeat(2, 0)[:4].mean(0)
    want = np.sum((direct[0].T @ direct[1]) ** 2) / np.prod(
        [np.linalg.norm(a.T @ a) for a in direct]
    )
    assert linear_cka(wide, y.repeat(2, 0)[:4]) == pytest.approx(want)
    with pytest.raises(ValueError, match=r"the same for every example"):
        linear_cka(np.ones((3, 2)), x)
    with pytest.raises(ValueError, match=r"got 3 and 2 examples"):
        linear_cka(x, x[:2])


def test_importance_in_the_projection_against_scikit_learn():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 6))
    labels = (x[:, 0] + 0.3 * x[:, 1] > 0).astype(int) + (x[:, 2] > 1)
    y = np.eye(3)[labels]
    model = PLSRegression(n_components=2, tol=1e-12, max_iter=10_000).fit(x, y)
    t, w, q = model.x_scores_, model.x_weights_, model.y_loadings_
    s = np.diag(t.T @ t @ q.T @ q)
    want = np.sqrt(6 * ((w / np.linalg.norm(w, axis=0)) ** 2 @ s) / s.sum())
    np.testing.assert_allclose(variable_importance(x, y, 2), want, rtol=1e-6)
    with pytest.raises(ValueError, match=r"30 components cannot be taken from 30 samples"):
        variable_importance(x, y, 30)


def test_pls_scores_blocks_by_their_pooled_stream(maps):
    a = np.arange(2 * 5 * 5 * 1.0).reshape(2, 5, 5, 1)
    np.testing.assert_allclose(
        _pooled(a, 2)[0], [3, 5, 13, 15]
    )  # the fifth row and column fill no window
    found, params, x = maps
    batches = [x, 2 * x, -x]
    got = layers.pls_vip(found, params, batches, [[0], [0], [1]])
    assert set(got) == {"a", "b"}
    assert np.isfinite(list(got.values())).all()
    with pytest.raises(ValueError, match=r"got 3 batches and labels of 1"):
        layers.pls_vip(found, params, batches, [[0]])
