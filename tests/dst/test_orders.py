"""Before, after, instead: where the mask update stands to the optimizer's step, and what is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wormjax as wj
from tests.dst import oracles
from tests.dst.runs import gradients, run, start, training

RATE, MOMENTUM = np.float32(0.1), np.float32(0.9)


def by_hand(order, weight, mask, grads):
    """Momentum, magnitude and gradient, every second step; masks and weights after each."""
    w, v, path = np.where(mask, weight, 0), np.zeros_like(weight), []
    for t, g in enumerate(grads, 1):
        due = t % 2 == 0

        def move(w, mask, g=g):
            return oracles.moved(mask, np.abs(w), np.abs(g), "0.5")

        if due and order in ("after", "skip"):
            mask = move(w, mask)
        if not (due and order == "skip"):
            v = np.where(mask, MOMENTUM * np.where(mask, v, 0) + np.where(mask, g, 0), 0)
            w = w - RATE * v
        if due and order == "before":
            mask = move(w, mask)
        w = np.where(mask, w, 0)
        path.append((mask, w))
    return path


@pytest.mark.parametrize("order", ["after", "before", "skip"])
def test_every_order_is_what_its_words_say(order):
    params, grads, tx = start(), gradients(4), training(order=order)
    state = tx.init(params)
    first = np.asarray(state.masks["dense"]["kernel"])
    weight = np.asarray(params["dense"]["kernel"])
    _, state, path, masks = run(tx, params, grads, state)
    expected = by_hand(order, weight, first, np.asarray(grads["dense"]["kernel"]))
    for (mask, w), found, moved in zip(expected, np.asarray(path), masks, strict=True):
        np.testing.assert_array_equal(moved, mask)
        np.testing.assert_allclose(found, w, rtol=1e-5, atol=1e-6)
        assert (found[~mask] == 0).all()
    wj.check(state)


@pytest.mark.parametrize(("order", "gates"), [("after", 1), ("skip", 2), ("before", 2)])
def test_what_is_not_due_is_not_computed(order, gates):
    """An optimizer with an operation that nothing else has stands inside the gates, or outside of them."""
    inner = optax.stateless(lambda u, _: jax.tree.map(jnp.tanh, u))
    tx, params = training(inner, order=order), start()
    program = jax.make_jaxpr(tx.update)(params, tx.init(params), params)
    [call] = program.eqns  # the compiled update
    names = [eqn.primitive.name for eqn in call.params["jaxpr"].eqns]
    assert names.count("while") == gates
    assert "cond" not in names
    assert ("tanh" in names) == (order == "after")
    assert "tanh" in str(program)


def test_an_update_can_be_differentiated_backwards_where_the_step_is_always_taken():
    params, tx = start(), training(order="after")
    state = tx.init(params)

    def moved(scale):
        updates, _ = tx.update(jax.tree.map(lambda p: scale * p, params), state, params)
        return jnp.sum(updates["dense"]["bias"])

    # traced only: what cannot be differentiated says so while it is traced
    assert jax.eval_shape(jax.grad(moved), jnp.float32(1)).shape == ()
