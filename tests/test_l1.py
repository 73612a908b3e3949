"""The L1 pull on scales, in both its forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wormjax as wj
from tests.compiling import counted


def test_the_numbers_of_the_spec():
    # before weight decay: g + s sign(gamma) + wd gamma
    tx = optax.chain(wj.l1_pull(1e-4), optax.add_decayed_weights(1e-4))
    params = {"scale": jnp.array([0.5, -0.2, 0.0])}
    updates, _ = tx.update({"scale": jnp.full(3, 0.1)}, tx.init(params), params)
    np.testing.assert_allclose(updates["scale"], [0.10015, 0.09988, 0.1], rtol=1e-6)


@pytest.fixture
def problem():
    random = np.random.default_rng(0)
    params = {
        "bn": {"scale": jnp.asarray(random.normal(size=6), jnp.float32), "bias": jnp.ones(6)},
        "conv": {"kernel": jnp.asarray(random.normal(size=(3, 6)), jnp.float32)},
    }
    grads = jax.tree.map(lambda p: jnp.asarray(random.normal(size=p.shape), p.dtype), params)
    return params, grads


def test_the_pull_is_the_gradient_of_the_penalty_where_no_scale_is_zero(problem):
    params, grads = problem
    tx = wj.l1_pull(0.05)
    pulled, _ = tx.update(grads, tx.init(params), params)
    penalty = jax.grad(lambda p: wj.l1_penalty(p, 0.05))(params)

    for ours, g, d in zip(*map(jax.tree.leaves, (pulled, grads, penalty)), strict=True):
        np.testing.assert_array_equal(ours, g + d)


def test_only_the_scored_leaves_are_pulled(problem):
    params, grads = problem
    tx = wj.l1_pull(0.05)
    pulled, _ = tx.update(grads, tx.init(params), params)
    for leaf in ("bias", "scale"):
        moved = not np.array_equal(pulled["bn"][leaf], grads["bn"][leaf])
        assert moved == (leaf == "scale")
    np.testing.assert_array_equal(pulled["conv"]["kernel"], grads["conv"]["kernel"])


def test_another_score_says_which_leaves(problem):
    params, grads = problem
    kernels = functools.partial(
        wj.scores.magnitude, prunable=lambda p: wj.prunable(p, include="kernel$")
    )
    pulled, _ = wj.l1_pull(0.5, kernels).update(grads, optax.EmptyState(), params)
    expected = np.asarray(grads["conv"]["kernel"]) + np.float32(0.5) * np.sign(
        params["conv"]["kernel"]
    )
    np.testing.assert_array_equal(pulled["conv"]["kernel"], expected)
    np.testing.assert_array_equal(pulled["bn"]["scale"], grads["bn"]["scale"])
    np.testing.assert_allclose(
        wj.l1_penalty(params, 0.5, kernels), 0.5 * np.abs(params["conv"]["kernel"]).sum(), rtol=1e-6
    )


def test_the_penalty_counts_scales_alone_in_float32(problem):
    params, _ = problem
    expected = 0.3 * np.abs(np.float64(params["bn"]["scale"])).sum()
    np.testing.assert_allclose(wj.l1_penalty(params, 0.3), expected, rtol=1e-6)

    half = {"scale": jnp.full(4096, 1.0, jnp.bfloat16)}  # bfloat16 cannot count beyond 256
    penalty = wj.l1_penalty(half, 1.0)
    assert penalty.dtype == jnp.float32
    assert float(penalty) == 4096


def test_zero_scales_of_either_sign_stay_where_they_are():
    params = {"scale": jnp.array([0.0, -0.0])}
    updates, _ = wj.l1_pull(1.0).update({"scale": jnp.zeros(2)}, optax.EmptyState(), params)
    np.testing.assert_array_equal(updates["scale"], [0, 0])
    # the penalty's gradient there is JAX's convention for |x| at 0, and promised by nobody


def test_the_updates_keep_their_dtype():
    params = {"scale": jnp.array([2.0, -2.0], jnp.bfloat16)}
    updates, _ = wj.l1_pull(jnp.float32(0.5)).update(params, optax.EmptyState(), params)
    assert updates["scale"].dtype == jnp.bfloat16
    assert updates["scale"].tolist() == [2.5, -2.5]
    mixed, _ = wj.l1_pull(0.5).update({"scale": jnp.ones(2)}, optax.EmptyState(), params)
    assert mixed["scale"].dtype == jnp.float32
    assert mixed["scale"].tolist() == [1.5, 0.5]


def test_after_the_truncation_the_pull_is_not_truncated(problem):
    # the order of Early-Bird: truncate the loss gradient, then pull, then decay and momentum
    params, grads = problem
    state_of = wj.worm(wj.scores.norm_scale, window=2, policy=wj.policies.constant(0.0), every=1)
    tx = optax.chain(state_of, wj.l1_pull(0.25))
    updates, state = tx.update(grads, tx.init(params), params)
    kept = np.asarray(wj.masks_of(state, params)["bn"]["scale"])
    g, sign = np.asarray(grads["bn"]["scale"]), np.sign(np.asarray(params["bn"]["scale"]))
    np.testing.assert_array_equal(
        updates["bn"]["scale"], np.where(kept, g, 0) + np.float32(0.25) * sign
    )


def test_in_a_part_of_the_tree_and_in_an_empty_part(problem):
    params, grads = problem
    tx = optax.multi_transform(
        {"norm": wj.l1_pull(0.5), "rest": wj.l1_pull(9.0)}, {"bn": "norm", "conv": "rest"}
    )
    updates, _ = tx.update(grads, tx.init(params), params)
    expected = np.asarray(grads["bn"]["scale"]) + np.float32(0.5) * np.sign(params["bn"]["scale"])
    np.testing.assert_array_equal(updates["bn"]["scale"], expected)
    jax.tree.map(np.testing.assert_array_equal, updates["conv"], grads["conv"])


def test_a_strength_that_changes_compiles_nothing(problem):
    params, grads = problem
    tx = optax.inject_hyperparams(wj.l1_pull, static_args="score")(0.1)
    (update, programs), state = counted(tx.update), tx.init(params)
    for strength in (0.1, 0.2, 0.4):
        state.hyperparams["strength"] = jnp.float32(strength)
        updates, state = update(grads, state, params)
        moved = np.abs(updates["bn"]["scale"] - grads["bn"]["scale"])
        np.testing.assert_allclose(moved, strength, rtol=1e-5)
    assert len(programs) == 1


def test_it_needs_the_parameters():
    tx = wj.l1_pull(0.1)
    with pytest.raises(
        ValueError, match=r"l1_pull needs the parameters: call tx.update\(updates, state"
    ):
        tx.update({"scale": jnp.ones(2)}, optax.EmptyState())


def test_a_model_without_normalisation():
    params = {"kernel": jnp.ones((2, 2))}
    with pytest.raises(ValueError, match="no normalisation scale"):
        wj.l1_penalty(params, 0.1)
    with pytest.raises(ValueError, match="no normalisation scale"):
        wj.l1_pull(0.1).update(params, optax.EmptyState(), params)
