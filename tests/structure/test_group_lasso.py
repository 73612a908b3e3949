"""The group lasso against loops over units in NumPy, in float64, and in a chain."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.compiling import counted
from wormjax.structure import Plan, find_groups, group_lasso, group_lasso_penalty


def chain(params, x):
    h = jnp.tanh(x @ params["a"] * params["scale"])
    return jnp.tanh(h @ params["b"]) @ params["c"]


def stream(params, x):
    h = x @ params["up"]
    return (h + jnp.tanh(h @ params["square"])) @ params["down"]


def heads(params, x):
    h = (x @ params["q"]).reshape(-1, 2, 3)
    return jnp.einsum("nhd,hdk->nk", jnp.tanh(h), params["o"])


NETS = {
    "chain": (chain, {"a": (3, 4), "scale": (1, 4), "b": (4, 5), "c": (5, 2)}, 2),
    "stream": (stream, {"up": (3, 4), "square": (4, 4), "down": (4, 2)}, 1),
    "heads": (heads, {"q": (3, 6), "o": (2, 3, 2)}, 2),
}


def net(name, dtype=jnp.float32):
    apply, shapes, count = NETS[name]
    rng = np.random.default_rng(0)
    params = {k: jnp.asarray(rng.normal(size=shape), dtype) for k, shape in shapes.items()}
    groups = find_groups(apply, params, jnp.ones((1, 3), dtype))
    assert len(groups) == count
    return groups, params


def units_of(groups, shapes):
    """Every unit as a mask of each parameter, read off the plan that removes it alone."""
    for group in groups:
        for unit in range(group.size):
            kept = {g.name: np.ones(g.size, bool) for g in groups}
            kept[group.name][unit] = False
            masks = Plan(groups, kept).masks
            yield {k: ~np.broadcast_to(np.asarray(masks[k]), shapes[k]) for k in shapes}


def by_loops(groups, params, strength, by_size):
    """The penalty and its subgradient, unit by unit."""
    p = jax.tree.map(np.float64, params)
    total, pull = 0.0, {k: np.zeros(w.shape) for k, w in p.items()}
    for mask in units_of(groups, {k: w.shape for k, w in p.items()}):
        norm = np.sqrt(sum((p[k][mask[k]] ** 2).sum() for k in p))
        weight = np.sqrt(sum(m.sum() for m in mask.values())) if by_size else 1.0
        total += strength * weight * norm
        for k in p:
            if norm > 0:
                pull[k][mask[k]] += strength * weight * p[k][mask[k]] / norm
    return total, pull


@pytest.mark.parametrize(
    ("name", "by_size"),
    [
        ("stream", False),
        ("stream", True),
        *(
            pytest.param(n, b, marks=pytest.mark.slow)
            for n in ("chain", "heads")
            for b in (False, True)
        ),
    ],
)
def test_penalty_and_pull_are_those_of_loops_over_units(name, by_size):
    with jax.enable_x64(True):
        groups, params = net(name, jnp.float64)
        grads = jax.tree.map(lambda p: jnp.cos(p), params)
        total, pull = by_loops(groups, params, 0.3, by_size)
        penalty = group_lasso_penalty(groups, params, 0.3, by_size)
        assert penalty.dtype == jnp.float64
        np.testing.assert_allclose(penalty, total, rtol=1e-13)

        tx = group_lasso(groups, 0.3, by_size)
        updates, _ = jax.jit(tx.update)(grads, tx.init(params), params)
        slopes = jax.grad(lambda p: group_lasso_penalty(groups, p, 0.3, by_size))(params)
        for k in params:
            np.testing.assert_allclose(updates[k], grads[k] + pull[k], rtol=1e-12)
            np.testing.assert_allclose(slopes[k], pull[k], rtol=1e-12, atol=1e-15)


def test_the_pull_is_the_penaltys_slope_by_finite_differences():
    with jax.enable_x64(True):
        groups, params = net("stream", jnp.float64)
        tx = group_lasso(groups, 0.7)
        zeros = jax.tree.map(jnp.zeros_like, params)
        pull, _ = tx.update(zeros, tx.init(params), params)
        penalty = jax.jit(lambda p: group_lasso_penalty(groups, p, 0.7))
        for index in np.ndindex(4, 4):
            step = jnp.zeros((4, 4)).at[index].set(1e-6)
            up, down = (penalty(params | {"square": params["square"] + s}) for s in (step, -step))
            np.testing.assert_allclose(pull["square"][index], (up - down) / 2e-6, rtol=1e-7)


def test_a_unit_of_zeros_is_not_pulled_and_no_nan_appears():
    groups, params = net("chain")
    params["a"] = params["a"].at[:, 1].set(0.0)
    params["scale"] = params["scale"].at[:, 1].set(0.0)
    params["b"] = params["b"].at[1].set(0.0)
    tx = group_lasso(groups, 0.5)
    zeros = jax.tree.map(jnp.zeros_like, params)
    pull, _ = tx.update(zeros, tx.init(params), params)
    _, expected = by_loops(groups, params, 0.5, False)
    for k in params:
        np.testing.assert_allclose(pull[k], expected[k], rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(pull["a"][:, 1], 0)
    np.testing.assert_array_equal(pull["b"][1], 0)
    assert np.all(np.asarray(pull["a"])[:, [0, 2, 3]] != 0)

    nothing = jax.tree.map(jnp.zeros_like, params)
    pull, _ = tx.update(nothing, tx.init(params), nothing)
    jax.tree.map(lambda p: np.testing.assert_array_equal(p, 0), pull)


@pytest.mark.parametrize(
    "opt", [optax.sgd(0.1, momentum=0.9), pytest.param(optax.adam(0.01), marks=pytest.mark.slow)]
)
def test_any_chain_shrinks_units_that_the_loss_does_not_need(opt):
    groups, params = net("chain")
    tx = optax.chain(group_lasso(groups, 0.2), opt)

    @jax.jit
    def step(p, state):
        updates, state = tx.update(jax.tree.map(jnp.zeros_like, p), state, p)
        return optax.apply_updates(p, updates), state

    before = group_lasso_penalty(groups, params, 1.0)
    state = tx.init(params)
    with jax.numpy_dtype_promotion("standard"):  # optax's adam
        for _ in range(30):
            params, state = step(params, state)
    assert group_lasso_penalty(groups, params, 1.0) < 0.8 * before


def test_as_a_transformation_and_as_a_loss_term_it_trains_alike():
    groups, params = net("heads")
    x = jnp.asarray(np.random.default_rng(1).normal(size=(8, 3)), jnp.float32)

    def loss(p):
        return jnp.mean(heads(p, x) ** 2)

    tx = optax.chain(group_lasso(groups, 0.05), optax.sgd(0.1))
    one, other, state = params, params, tx.init(params)
    for _ in range(5):
        updates, state = tx.update(jax.grad(loss)(one), state, one)
        one = optax.apply_updates(one, updates)
        slope = jax.grad(lambda p: loss(p) + group_lasso_penalty(groups, p, 0.05))(other)
        other = jax.tree.map(lambda p, g: p - 0.1 * g, other, slope)
    for k in params:
        np.testing.assert_allclose(one[k], other[k], rtol=1e-5, atol=1e-7)


def test_a_part_is_pulled_by_the_norms_of_the_part():
    groups, params = net("chain")
    labels = {"a": "pulled", "scale": "pulled", "b": "rest", "c": "rest"}
    tx = optax.multi_transform(
        {"pulled": group_lasso(groups, 0.5), "rest": optax.identity()}, labels
    )
    zeros = jax.tree.map(jnp.zeros_like, params)
    pull, _ = tx.update(zeros, tx.init(params), params)
    p = jax.tree.map(np.float64, params)
    norms = np.sqrt((p["a"] ** 2).sum(axis=0) + (p["scale"] ** 2).sum(axis=0))
    np.testing.assert_allclose(pull["a"], 0.5 * p["a"] / norms, rtol=1e-5)
    np.testing.assert_allclose(pull["scale"], 0.5 * p["scale"] / norms, rtol=1e-5)
    for k in ("b", "c"):
        np.testing.assert_array_equal(pull[k], 0)


def test_dtypes_stay_and_what_is_no_float_has_no_part():
    def apply(params, x):
        h = (x @ params["a"]) * jnp.where(params["gate"] > 0, jnp.float32(1), jnp.float32(0))
        return jnp.tanh(h) @ params["b"].astype(jnp.float32)

    params = {
        "a": jnp.ones((2, 4)),
        "b": jnp.ones((4, 1), jnp.bfloat16),
        "gate": jnp.ones((1, 4), jnp.int32),
    }
    groups = find_groups(apply, params, jnp.ones((1, 2)))
    assert "gate" in {s.path for s in groups["a:1"].slices}
    tx = group_lasso(groups, jnp.float32(3.0))
    updates, _ = tx.update(params, tx.init(params), params)
    assert {k: u.dtype for k, u in updates.items()} == {k: p.dtype for k, p in params.items()}
    np.testing.assert_array_equal(updates["gate"], params["gate"])
    np.testing.assert_allclose(updates["a"], 1 + 3 / np.sqrt(3), rtol=1e-6)
    np.testing.assert_allclose(np.float32(updates["b"]), 1 + 3 / np.sqrt(3), rtol=1e-2)


def test_a_strength_that_changes_compiles_nothing():
    groups, params = net("stream")
    tx = optax.inject_hyperparams(group_lasso, static_args=("groups", "by_size"))(groups, 0.1)
    (update, programs), state = counted(tx.update), tx.init(params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    once, _ = group_lasso(groups, 1.0).update(zeros, optax.EmptyState(), params)
    for strength in (0.1, 0.2, 0.4):
        state.hyperparams["strength"] = jnp.float32(strength)
        pull, state = update(zeros, state, params)
        for k in params:
            np.testing.assert_allclose(pull[k], strength * once[k], rtol=1e-5)
    assert len(programs) == 1


def test_what_it_refuses():
    groups, params = net("chain")
    tx = group_lasso(groups, 0.1)
    with pytest.raises(ValueError, match=r"group_lasso needs the parameters: call tx.update"):
        tx.update(params, tx.init(params))
    with pytest.raises(ValueError, match="'scale' is a leaf of only one of the parameters"):
        group_lasso_penalty(groups, {k: v for k, v in params.items() if k != "scale"}, 0.1)
    with pytest.raises(ValueError, match=r"'a' has shape \(3, 2\), and \(3, 4\) where"):
        group_lasso_penalty(groups, params | {"a": jnp.ones((3, 2))}, 0.1)
