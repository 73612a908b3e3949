"""Laws of truncation over every optimizer that optax exports.

The toy is made of pairs: entries 2i and 2i + 1 start equal and see the same gradients, which depend on the
step alone, so that nothing ever converges and live entries keep moving. The first entry of a pair is kept
and the second is pruned; what an optimizer makes of a truncated entry is read off beside its twin.
"""

import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax._src import alias

import wormjax as wj
from tests.compiling import counted

FACTOR = 3e-3
STEPS = 2000

# What an alias needs beside a learning rate of 0.01 to move the toy at a measurable pace. The scheme is
# explicit, so that an optimizer that a later optax adds joins the law by itself.
SETTINGS = {
    "adadelta": {"learning_rate": 1.0},
    "lars": {"learning_rate": 1.0},
    "lbfgs": {"learning_rate": 0.01, "linesearch": None},  # a search would need a loss; see below
    "noisy_sgd": {"learning_rate": 0.01, "key": 0},
    "polyak_sgd": {"max_learning_rate": 0.01},  # its value arrives as an extra argument
}
EXCLUDED = {"optimistic_adam": "a deprecated name of optimistic_adam_v2 that warns"}

NAMES = sorted(
    name
    for name, made in vars(alias).items()
    if inspect.isfunction(made)
    and made.__module__ == alias.__name__
    and hasattr(optax, name)
    and name not in EXCLUDED
)

MASKS = {"kernel": jnp.array(True), "scale": jnp.array([True, False] * 4)}


@pytest.fixture(autouse=True)
def _ordinary_promotion():
    # several of optax's own optimizers mix int32 step counts with floats
    with jax.numpy_dtype_promotion("standard"):
        yield


@functools.cache
def start():
    random = np.random.default_rng(0)
    scale = np.repeat(random.normal(size=4) * 0.1, 2)
    kernel = random.normal(size=(2, 3)) * 0.1
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), {"kernel": kernel, "scale": scale})


@functools.cache
def gradients(steps):
    random = np.random.default_rng(1)
    drift = np.array([0.5, -0.5, 0.8, -0.8])
    pairs = np.repeat(random.normal(size=(steps, 4)) + drift, 2, axis=1)
    kernel = random.normal(size=(steps, 2, 3))
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), {"kernel": kernel, "scale": pairs})


def optimizer(name):
    return getattr(optax, name)(**SETTINGS.get(name, {"learning_rate": 0.01}))


def train(tx, params, state, grads):
    """Return parameters and state after one update for each row of the gradients."""
    tx = optax.with_extra_args_support(tx)

    def step(carry, gradient):
        params, state = carry
        updates, state = tx.update(gradient, state, params, value=jnp.float32(1))
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, state), grads)[0]


def with_factor(state, factor):
    return dataclasses.replace(state, factor=jnp.float32(factor))


def displacement(name, tx, steps=STEPS):
    """Return how far the live and the frozen twins have moved."""
    params = start()
    run = jax.jit(lambda grads: train(tx, params, tx.init(params), grads)[0])
    moved = np.abs(np.float64(run(gradients(steps))["scale"]) - np.float64(params["scale"]))
    assert np.isfinite(moved).all(), name
    return moved[::2], moved[1::2]


def test_the_table_is_the_whole_of_optax():
    known = {"sgd", "adam", "adamw", "lion", "rmsprop", "lbfgs", "polyak_sgd", "lars", "novograd"}
    assert known <= set(NAMES)
    assert set(SETTINGS) <= set(NAMES)
    assert len(NAMES) >= 28


@pytest.mark.parametrize("name", NAMES)
def test_placed_last_it_holds_the_displacement_whatever_the_optimizer(name):
    live, frozen = displacement(name, optax.chain(optimizer(name), wj.truncate(MASKS, FACTOR)))

    assert live.min() > 3e-4, "the toy must move, or the law says nothing"
    assert frozen.sum() <= 1.05 * FACTOR * live.sum()
    assert np.all(frozen <= 1.05 * FACTOR * live)
    assert np.all(frozen >= 0.95 * FACTOR * live)  # and it is truncated, not frozen altogether


@pytest.mark.parametrize(
    ("name", "first"), [("sgd", FACTOR), ("adam", 1.0), ("rmsprop", 1.0), ("lion", 1.0)]
)
def test_placed_first_an_optimizer_that_normalises_undoes_it(name, first):
    live, frozen = displacement(name, optax.chain(wj.truncate(MASKS, FACTOR), optimizer(name)))

    np.testing.assert_allclose(frozen.sum() / live.sum(), first, rtol=0.01)


def test_placed_first_adam_coasts_on_its_second_moment_before_it_undoes_it():
    # switched on after 500 dense updates, Adam still divides by the old second moment for a while
    grads = gradients(STEPS)
    early, late = (jax.tree.map(lambda g, s=s: g[s], grads) for s in (slice(500), slice(500, None)))
    tx = optax.chain(wj.truncate(MASKS, FACTOR), optax.adam(0.01))
    params = start()
    run = jax.jit(functools.partial(train, tx))
    warm, state = run(params, (with_factor(tx.init(params)[0], 1.0), tx.init(params)[1]), early)
    after, _ = run(warm, (with_factor(state[0], FACTOR), state[1]), late)

    moved = np.abs(np.float64(after["scale"]) - np.float64(warm["scale"]))
    assert FACTOR < moved[1::2].sum() / moved[::2].sum() < 0.1


def by_hand(grads):
    scale = jnp.broadcast_to(MASKS["scale"], grads["scale"].shape)
    return {**grads, "scale": jnp.where(scale, grads["scale"], FACTOR * grads["scale"])}


@pytest.mark.parametrize("name", NAMES)
def test_placed_first_it_multiplies_gradients_and_at_factor_one_does_nothing(name):
    # one compiled program, fed different states
    tx, params, grads = (
        optax.chain(wj.truncate(MASKS, 1.0), optimizer(name)),
        start(),
        gradients(30),
    )
    run, programs = counted(functools.partial(train, tx))
    first, *rest = tx.init(params)
    keep_all, prune_all = jax.tree.map(jnp.ones_like, MASKS), jax.tree.map(jnp.zeros_like, MASKS)
    prune_all["kernel"] = jnp.array(True)

    def under(masks, factor, grads):
        state = with_factor(dataclasses.replace(first, masks=masks), factor)
        return np.asarray(run(params, (state, *rest), grads)[0]["scale"])

    dense, at_one = under(keep_all, 0.0, grads), under(prune_all, 1.0, grads)
    np.testing.assert_array_equal(at_one.view(np.uint32), dense.view(np.uint32))
    # LLVM may fuse the multiply into the optimizer's own arithmetic: equal up to that rounding
    multiplied = under(keep_all, 0.0, by_hand(grads))
    np.testing.assert_allclose(under(MASKS, FACTOR, grads), multiplied, rtol=1e-6, atol=1e-8)
    assert len(programs) == 1


@pytest.mark.parametrize("name", ["sgd", "adamw", "lion"])
def test_placed_first_it_equals_the_bare_optimizer_on_gradients_multiplied_by_hand(name):
    opt, params, grads = optimizer(name), start(), gradients(30)
    tx = optax.chain(wj.truncate(MASKS, FACTOR), opt)
    ours, _ = jax.jit(functools.partial(train, tx))(params, tx.init(params), grads)
    theirs, _ = jax.jit(functools.partial(train, opt))(params, opt.init(params), by_hand(grads))

    for key in params:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=2e-6, atol=1e-7)


def test_a_line_search_gets_its_arguments_through_the_chain():
    # lbfgs as optax sets it up: value, gradient and function travel through truncate and worm
    params = {"scale": jnp.array([1.0, -2.0, 3.0, 0.5])}
    masks = {"scale": jnp.array([True, False, True, True])}
    worm = wj.worm(wj.scores.norm_scale, policy=wj.policies.off())
    tx = optax.chain(wj.truncate(masks, 0.5), worm, optax.lbfgs())

    def loss(p):
        return jnp.sum(p["scale"] ** 2)

    @jax.jit
    def step(multiply, state, p):
        value, g = jax.value_and_grad(loss)(p)
        given = jax.tree.map(jnp.multiply, g, multiply)
        return tx.update(given, state, p, value=value, grad=g, value_fn=loss)

    def run(factor, multiply):
        p, (first, *rest) = params, tx.init(params)
        state = (with_factor(first, factor), *rest)
        for _ in range(3):
            update, state = step({"scale": jnp.array(multiply)}, state, p)
            p = optax.apply_updates(p, update)
        return p["scale"]

    expected = run(1.0, [1.0, 0.5, 1.0, 1.0])
    np.testing.assert_array_equal(run(0.5, [1.0, 1.0, 1.0, 1.0]), expected)
    assert np.abs(expected).max() < 1.0  # it did descend


@pytest.mark.parametrize("first", [True, False])
def test_decoupled_decay_is_held_last_and_let_through_first(first):
    # no gradient at all: what moves is weight decay, p <- p (1 - lr wd), in closed form
    rate, decay, steps = 0.1, 0.1, 300
    truncation, opt = wj.truncate(MASKS, FACTOR), optax.adamw(rate, weight_decay=decay)
    tx = optax.chain(truncation, opt) if first else optax.chain(opt, truncation)
    params = start()
    nothing = jax.tree.map(lambda p: jnp.zeros((steps, *p.shape), p.dtype), params)
    after, _ = jax.jit(functools.partial(train, tx))(params, tx.init(params), nothing)

    ratio = np.float64(after["scale"]) / np.float64(params["scale"])
    np.testing.assert_allclose(ratio[::2], (1 - rate * decay) ** steps, rtol=1e-4)
    factor = 1.0 if first else FACTOR
    np.testing.assert_allclose(ratio[1::2], (1 - factor * rate * decay) ** steps, rtol=1e-4)
