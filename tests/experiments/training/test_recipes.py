import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.training import Recipe, start_at


def reference_rate(step, per_epoch, lr=0.1, milestones=(80, 120), decay=0.1):
    """The papers' rule in float64: multiplied at the start of each milestone epoch."""
    return lr * decay ** sum(step // per_epoch >= m for m in milestones)


@pytest.mark.parametrize("per_epoch", [1, 7])
def test_milestones_against_the_rule(per_epoch):
    schedule = Recipe().schedule(per_epoch)
    edges = [m * per_epoch + d for m in (80, 100, 120) for d in (-1, 0, 1)]
    for step in [0, 1, *edges, 160 * per_epoch]:
        want = np.float32(reference_rate(step, per_epoch))
        assert schedule(step) == want
        assert jax.jit(schedule)(jnp.asarray(step, jnp.int32)) == want


def test_eb_d5_a_run_that_starts_at_epoch_100_has_the_decayed_rate():
    recipe = Recipe()
    assert recipe.schedule(196)(100 * 196) == np.float32(0.01)
    # and so has the optimizer that starts there, not only the schedule
    tx = recipe.optimizer(196)
    params = {"w": jnp.zeros(1)}
    state = start_at(tx.init(params), 100 * 196)
    updates, state = tx.update({"w": jnp.ones(1)}, state, params)
    assert updates["w"][0] == np.float32(-0.01)
    assert state[-1][-1].count == 100 * 196 + 1


def test_cosine_and_constant_against_float64():
    cosine = Recipe(schedule_kind="cosine", epochs=10, learning_rate=0.3).schedule(5)
    for step in (0, 1, 25, 49, 50, 70):
        want = 0.3 * 0.5 * (1 + np.cos(np.pi * min(step, 50) / 50))
        np.testing.assert_allclose(jax.jit(cosine)(jnp.int32(step)), want, atol=1e-7)
    constant = Recipe(schedule_kind="constant").schedule(5)
    assert constant(10**6) == np.float32(0.1)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_optimizer_against_float64(momentum, nesterov):
    recipe = Recipe(
        learning_rate=0.1,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=0.01,
        milestones=(1,),
        epochs=2,
    )
    tx = recipe.optimizer(2)  # the rate falls at the third step
    rng = np.random.default_rng(0)
    w = rng.normal(size=5)
    params = {"w": jnp.asarray(w, jnp.float32)}
    state = tx.init(params)
    v = np.zeros(5)
    for rate in (0.1, 0.1, 0.01, 0.01):
        g = rng.normal(size=5)
        updates, state = tx.update({"w": jnp.asarray(g, jnp.float32)}, state, params)
        params = optax.apply_updates(params, updates)
        g = g + 0.01 * w
        v = momentum * v + g
        w = w - rate * (g + momentum * v if nesterov else v)
        np.testing.assert_allclose(params["w"], w, rtol=1e-6)


def test_zero_weight_decay_leaves_a_zero_gradient_alone():
    params = {"w": jnp.ones(3)}
    for weight_decay, moved in ((0.0, 0.0), (1e-2, -1e-3)):
        tx = Recipe(weight_decay=weight_decay).optimizer(1)
        updates, _ = tx.update({"w": jnp.zeros(3)}, tx.init(params), params)
        np.testing.assert_allclose(updates["w"], moved, rtol=1e-6)


def test_start_at_moves_schedules_only_and_each_seed_by_itself():
    tx = optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(lambda count: 0.1))
    state = jax.vmap(tx.init)({"w": jnp.ones((2, 3))})
    moved = start_at({"inner": state}, jnp.array([5, 9], jnp.int32))["inner"]
    assert moved[0].count.tolist() == [0, 0]
    assert moved[1].count.tolist() == [5, 9]
    assert jax.tree.structure(moved) == jax.tree.structure(state)
    assert moved[1].count.dtype == state[1].count.dtype


def test_start_at_without_a_schedule_is_a_sentence():
    with pytest.raises(ValueError, match="holds no schedule"):
        start_at(optax.sgd(0.1).init({"w": jnp.ones(2)}), 3)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"epochs": 0}, "at least one epoch"),
        ({"learning_rate": -0.1}, "learning_rate is -0.1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"momentum": 1.0}, r"momentum is 1.0. Give a number in \[0, 1\)"),
        ({"momentum": 0.0, "nesterov": True}, "nesterov needs a velocity"),
        ({"weight_decay": -1e-4}, "weight_decay is -0.0001"),
        ({"schedule_kind": "step"}, "'step'. Use 'milestones', 'constant' or 'cosine'"),
        ({"milestones": (80, 80)}, r"milestones are \(80, 80\)"),
        ({"milestones": (0,)}, "from 1 on"),
        ({"decay": 0.0}, r"decay is 0.0. Give a factor in \(0, 1\]"),
    ],
)
def test_wrong_recipes_are_sentences(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe(**fields)


def test_an_epoch_has_a_step():
    with pytest.raises(ValueError, match="at least one step"):
        Recipe().schedule(0)
