"""Channels that sparse training pruned go, and training goes on: masks, counts, averages and copies are cut."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wormjax as wj
from wormjax.dst import patterns, ramps

KEY = jax.random.key(0)
PRUNED = {"a": True, "b": True, "c": False}


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) / 2, jnp.float32)


PARAMS = {"a": normal(0, 5, 8), "b": normal(1, 8, 6), "c": normal(2, 6, 3)}
X, Y = normal(3, 16, 5), normal(4, 16, 3)


def apply(params, x):
    return jnp.tanh(jnp.tanh(x @ params["a"]) @ params["b"]) @ params["c"]


def training(inner=None, **settings):
    options = {
        "density": 0.5,
        "distribution": "uniform",
        "pattern": patterns.channel(),
        "prunable": PRUNED,
        "every": 2,
        "stop": 4,
    }
    inner = optax.sgd(0.1, momentum=0.9) if inner is None else inner
    return wj.sparse_training(inner, key=KEY, **{**options, **settings})


@pytest.fixture(autouse=True)
def _lenient():
    """What optax itself needs: its own arithmetic mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@functools.partial(jax.jit, static_argnums=(0, 1))
def steps(tx, function, params, state, count):
    def step(_, carry):
        params, state = carry
        grads = jax.grad(lambda p: jnp.mean((function(p, X) - Y) ** 2))(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return jax.lax.fori_loop(0, count, step, (params, state))


@functools.cache
def groups():
    return wj.find_groups(apply, PARAMS, X)


def shrunk(tx):
    """The trained network and its ticket."""
    params, state = steps(tx, apply, PARAMS, tx.init(PARAMS), 4)
    plan = wj.plan(groups(), masks=wj.dst.channel_masks(state, params))
    return params, state, wj.shrink(plan, params, opt_state=state, tx=tx)


def columns(mask):
    return np.flatnonzero(np.asarray(mask).any(0))


@pytest.mark.parametrize(
    "tx",
    [training(), optax.chain(optax.clip(1.0), training(optax.adam(0.01), packed=True))],
    ids=["plain", "packed, in a chain, Adam"],
)
def test_pruned_channels_go_and_training_goes_on(tx):
    params, state, ticket = shrunk(tx)
    masks = wj.masks_of(state, params)
    a, b = columns(masks["a"]), columns(masks["b"])
    assert (len(a), len(b)) == (4, 3)
    np.testing.assert_array_equal(ticket.params["b"], np.asarray(params["b"])[np.ix_(a, b)])
    np.testing.assert_allclose(ticket.apply(ticket.params, X), apply(params, X), rtol=1e-5)

    small = wj.masks_of(ticket.opt_state, ticket.params)
    assert small["a"].shape == (5, 4)
    assert all(np.asarray(m).all() for m in jax.tree.leaves(small))
    fresh = tx.init(ticket.params)
    assert jax.tree.structure(ticket.opt_state) == jax.tree.structure(fresh)
    assert jax.tree.map(jnp.shape, ticket.opt_state) == jax.tree.map(jnp.shape, fresh)
    (own,) = (s for s in jax.tree.leaves(ticket.opt_state, is_leaf=sparse) if sparse(s))
    assert own.counts.tolist() == [4, 3]
    assert int(own.count) == 4

    # the next step is the masked network's
    whole, _ = steps(tx, apply, params, state, 1)
    part, after = steps(tx, ticket.apply, ticket.params, ticket.opt_state, 1)
    for got, want in (
        (part["a"], np.asarray(whole["a"])[:, a]),
        (part["b"], np.asarray(whole["b"])[np.ix_(a, b)]),
        (part["c"], np.asarray(whole["c"])[b]),
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    wj.check(after)


def sparse(node):
    return isinstance(node, wj.dst.SparseState)


def test_masks_of_channels_are_asked_of_channels():
    with pytest.raises(ValueError, match="No mask in this optimizer state is of channels"):
        wj.dst.channel_masks(training(pattern=None).init(PARAMS), PARAMS)


def test_averages_and_what_was_ever_active_are_cut():
    tx = training(
        drop="running_magnitude", accumulate="mean", track_fired=True, every=3, schedule=None
    )
    params, state, ticket = shrunk(tx)
    a, b = (columns(wj.masks_of(state, params)[k]) for k in "ab")
    for name in ("running", "gradients", "fired"):
        full, small = getattr(state, name), getattr(ticket.opt_state, name)
        np.testing.assert_array_equal(small[0], np.asarray(full[0])[:, a])
        np.testing.assert_array_equal(small[1], np.asarray(full[1])[np.ix_(a, b)])


def test_the_dense_copy_of_straight_through_training_is_cut():
    tx = training(straight_through=True, every=1)
    params, state, ticket = shrunk(tx)
    a = columns(wj.masks_of(state, params)["a"])
    np.testing.assert_array_equal(ticket.opt_state.latent[0], np.asarray(state.latent[0])[:, a])
    np.testing.assert_allclose(ticket.apply(ticket.params, X), apply(params, X), rtol=1e-5)


def test_a_ramp_must_have_come_to_its_end():
    tx = training(ramp=ramps.polynomial(), initial_density=1, stop=4)
    _, _, ticket = shrunk(tx)
    assert ticket.opt_state.targets.tolist() == [[4, 3], [4, 3]]
    tx = training(ramp=ramps.polynomial(), initial_density=1, stop=9)
    with pytest.raises(ValueError, match=r"its density is still changing.* end.$"):
        shrunk(tx)


def cut(tx, kept, **settings):
    """Keep these units of the first layer."""
    masks = jax.tree.map(lambda _: jnp.array(True), PARAMS)
    masks["a"] = jnp.asarray(np.isin(np.arange(8), kept)[None] & np.ones((5, 1), bool))
    plan = wj.plan(groups(), masks=masks)
    return wj.shrink(plan, PARAMS, opt_state=tx.init(PARAMS), tx=tx, **settings)


def test_unstructured_masks_are_counted_again_and_others_must_fit():
    loose = training(pattern=None)
    state = loose.init(PARAMS)
    ticket = cut(loose, [0, 3, 4])
    rows = np.asarray(state.masks["b"])[[0, 3, 4]]
    np.testing.assert_array_equal(ticket.opt_state.masks["b"], rows)
    assert ticket.opt_state.counts.tolist()[1] == rows.sum()
    given = training(pattern=None, masks=wj.masks_of(state, PARAMS))  # its init takes 8 units only
    same = cut(given, [0, 3, 4]).opt_state.masks["b"]
    np.testing.assert_array_equal(same, rows)

    pattern = {"a": patterns.unstructured(), "b": patterns.n_of_m(2, 4)}
    tx = training(pattern=lambda name, leaf: pattern[name])
    with pytest.raises(
        ValueError, match=r"SparseState cannot be cut .*'b', of shape \(3, 6\).*fits"
    ):
        cut(tx, [0, 3, 4])
    assert cut(tx, [0, 1, 2, 3]).opt_state.counts.tolist()[1] == 2
    with pytest.raises(ValueError, match=r"grow into padding\. Shrink without pad_to="):
        cut(loose, [0, 3, 4], pad_to={next(iter(groups())).name: 5})
