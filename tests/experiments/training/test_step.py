import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.training import Recipe, classify, init_state, make_step


def linear(params, stats, images, train=False):
    """A softmax regression that counts its training batches."""
    stats = {"batches": stats["batches"] + 1} if train else stats
    return images @ params["w"] + params["b"][None], stats


def start(tx, seed=0):
    rng = np.random.default_rng(seed)
    params = {"w": rng.normal(size=(4, 3)), "b": rng.normal(size=3)}
    as_float32 = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    stats = {"batches": jnp.zeros((), jnp.int32)}
    return params, init_state(as_float32, stats, tx, jax.random.key(seed))


def reference_gradient(params, x, y, masks=None):
    """Gradient, summed loss and right guesses of the regression in float64."""
    used = params if masks is None else {k: np.where(masks[k], params[k], 0.0) for k in params}
    z = x @ used["w"] + used["b"]
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(len(y)), y]).sum()
    delta = (p - np.eye(3)[y]) / len(y)
    grads = {"w": x.T @ delta, "b": delta.sum(axis=0)}
    if masks is not None:
        grads = {k: np.where(masks[k], grads[k], 0.0) for k in grads}
    return grads, loss, int((z.argmax(axis=1) == y).sum())


@pytest.mark.parametrize("masked", [False, True])
def test_three_steps_against_float64(masked):
    recipe = Recipe(learning_rate=0.5, weight_decay=0.01, schedule_kind="constant")
    tx = recipe.optimizer(1)
    params, state = start(tx)
    masks = {"w": np.arange(12).reshape(4, 3) % 3 > 0, "b": np.array(True)} if masked else None
    step = jax.jit(make_step(linear, tx))
    rng = np.random.default_rng(1)
    velocity = {k: np.zeros_like(v) for k, v in params.items()}
    for _ in range(3):
        x, y = rng.normal(size=(8, 4)), rng.integers(0, 3, 8)
        grads, loss, correct = reference_gradient(params, x, y, masks)
        state, metrics = step(
            state,
            jnp.asarray(x, jnp.float32),
            jnp.asarray(y, jnp.int32),
            jax.tree.map(jnp.asarray, masks),
        )
        np.testing.assert_allclose(metrics.loss_sum, loss, rtol=1e-5)
        assert (int(metrics.correct), int(metrics.count)) == (correct, 8)
        for k in params:
            velocity[k] = 0.9 * velocity[k] + grads[k] + 0.01 * params[k]
            params[k] = params[k] - 0.5 * velocity[k]
            np.testing.assert_allclose(state.params[k], params[k], rtol=2e-5, atol=1e-6)
    assert int(state.step) == 3
    assert int(state.epoch) == 0
    assert int(state.stats["batches"]) == 3


def test_a_pruned_entry_may_hold_anything():
    tx = optax.sgd(1.0)
    _, state = start(tx)
    masks = {"w": jnp.ones((4, 3), bool).at[1, 2].set(False), "b": jnp.array(True)}
    step = make_step(linear, tx)
    x, y = jnp.ones((2, 4)), jnp.array([0, 2])
    results = []
    for held in (0.0, 7.0, jnp.inf, jnp.nan):
        params = {**state.params, "w": state.params["w"].at[1, 2].set(held)}
        after, metrics = step(init_state(params, state.stats, tx, state.key), x, y, masks)
        np.testing.assert_equal(float(after.params["w"][1, 2]), float(held))
        results.append((float(metrics.loss_sum), after.params["b"].tolist()))
    assert all(r == results[0] for r in results)
    assert np.isfinite(results[0][0])


def test_augment_draws_from_seed_and_step_then_prepare():
    seen = []

    def augment(key, images):
        seen.append(key)
        return images + 1

    def prepare(images):
        return images.astype(jnp.float32) * 2

    def apply(params, stats, images, train=False):
        return images @ params["w"], {"images": images}

    tx = optax.sgd(0.0)
    key = jax.random.key(5)
    state = init_state({"w": jnp.zeros((2, 2))}, {"images": jnp.zeros((1, 2))}, tx, key)
    step = make_step(apply, tx, augment=augment, prepare=prepare)
    images, labels = jnp.array([[3, 4]], jnp.uint8), jnp.array([0])
    for _ in range(2):
        state, _ = step(state, images, labels)
    assert state.stats["images"].tolist() == [[8.0, 10.0]]
    for n, used in enumerate(seen):
        assert jnp.array_equal(
            jax.random.key_data(used), jax.random.key_data(jax.random.fold_in(key, n))
        )
    assert jnp.array_equal(jax.random.key_data(state.key), jax.random.key_data(key))


def test_penalty_moves_parameters_and_not_the_reported_loss():
    tx = optax.sgd(1.0)
    _, state = start(tx)
    x, y = jnp.ones((2, 4)), jnp.array([0, 2])
    plain, without = make_step(linear, tx)(state, x, y)
    pull = make_step(linear, tx, penalty=lambda p: 0.25 * jnp.sum(jnp.abs(p["b"])))
    pulled, with_it = pull(state, x, y)
    assert with_it.loss_sum == without.loss_sum
    np.testing.assert_allclose(
        plain.params["b"] - pulled.params["b"], 0.25 * np.sign(state.params["b"]), rtol=1e-5
    )


def test_classify_counts_valid_rows_only():
    logits = jnp.array([[1.0, 0.0], [0.0, 1.0], [jnp.nan, 0.0], [2.0, 0.0]], jnp.bfloat16)
    labels = jnp.array([0, 0, 1, 0], jnp.int32)
    metrics = classify(logits, labels, jnp.array([True, True, False, True]))
    want = np.log1p(np.exp(-1.0)) + np.log1p(np.exp(1.0)) + np.log1p(np.exp(-2.0))
    np.testing.assert_allclose(metrics.loss_sum, want, rtol=1e-6)
    assert metrics.loss_sum.dtype == jnp.float32
    assert (int(metrics.correct), int(metrics.count)) == (2, 3)
