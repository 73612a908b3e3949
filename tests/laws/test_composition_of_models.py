"""WORM on other precisions and on the model libraries' own trees, against a plain loop."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import wormjax as wj
from tests.laws.composition import FACTOR, mask_by_sort, norm_scale, start, worm


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("every", [1, None])
def test_in_both_precisions(dtype, every):
    params = jax.tree.map(lambda x: x.astype(dtype), start())
    ones = jax.tree.map(jnp.ones_like, params)
    tx = worm(every=every)
    state = tx.init(params)
    for _ in range(2):
        state = wj.detect(params, state) if every is None else state
        updates, state = jax.jit(tx.update)(ones, state, params)
    wide = np.asarray(params["bn"]["scale"], np.float32)
    mask = mask_by_sort(wide)
    assert all(u.dtype == dtype for u in jax.tree.leaves(updates))
    for leaf in ("scale", "bias"):
        np.testing.assert_array_equal(
            np.asarray(updates["bn"][leaf], np.float32), np.where(mask, 1, FACTOR)
        )
    assert bool(wj.early_bird_state(state).emerged)


class Block(eqx.Module):
    norm: eqx.nn.LayerNorm
    linear: eqx.nn.Linear
    activation: object

    def __init__(self, key):
        self.norm = eqx.nn.LayerNorm(4)
        self.linear = eqx.nn.Linear(4, 4, key=key)
        self.activation = jax.nn.relu


def test_on_an_equinox_module_filtered_to_arrays():
    params = eqx.filter(Block(jax.random.key(0)), eqx.is_array)
    params = eqx.tree_at(lambda b: b.norm.weight, params, jnp.array([0.1, -0.7, 0.4, 0.9]))
    score = functools.partial(norm_scale, prunable=lambda p: wj.prunable(p, include="norm/weight$"))
    tx = optax.chain(
        wj.worm(score, window=2, every=1, policy=wj.policies.constant(FACTOR)), optax.sgd(1.0)
    )
    state, update = tx.init(params), jax.jit(tx.update)
    for _ in range(2):
        updates, state = update(jax.tree.map(jnp.ones_like, params), state, params)

    expected = [-FACTOR, -1, -FACTOR, -1]
    assert updates.norm.weight.tolist() == expected
    assert updates.norm.bias.tolist() == expected
    np.testing.assert_array_equal(updates.linear.weight, -np.ones((4, 4)))
    assert updates.activation is None
    told = wj.masks_of(state, params)
    assert isinstance(told, Block)
    assert told.norm.weight.tolist() == [False, True, False, True]
    assert told.linear.bias.ndim == 0
    assert wj.early_bird_state(state).names == ("norm/weight",)
    assert bool(wj.early_bird_state(wj.detect(params, state)).emerged)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.linear = nnx.Linear(4, 4, rngs=rngs)


def test_on_an_nnx_state():
    params = nnx.state(Net(nnx.Rngs(0)), nnx.Param)
    params["norm"]["scale"] = params["norm"]["scale"].replace(jnp.array([0.1, -0.7, 0.4, 0.9]))
    tx = optax.chain(worm(every=1), optax.sgd(1.0))
    state, update = tx.init(params), jax.jit(tx.update)
    for _ in range(2):
        updates, state = update(jax.tree.map(jnp.ones_like, params), state, params)

    expected = [-FACTOR, -1, -FACTOR, -1]
    assert updates["norm"]["scale"][...].tolist() == expected
    assert updates["norm"]["bias"][...].tolist() == expected
    np.testing.assert_array_equal(updates["linear"]["kernel"][...], -np.ones((4, 4)))
    told = wj.masks_of(state, params)
    assert jax.tree.structure(told) == jax.tree.structure(params)
    assert told["norm"]["scale"][...].tolist() == [False, True, False, True]
    assert wj.early_bird_state(state).names == ("norm/scale",)
    assert bool(wj.early_bird_state(wj.detect(params, state)).emerged)
    applied = wj.apply_masks(params, told)
    np.testing.assert_allclose(applied["norm"]["scale"][...], [0, -0.7, 0, 0.9], rtol=1e-6)
