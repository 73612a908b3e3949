"""Masked, shrunk and block-executed networks compute the same; what cannot run in blocks is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj
from wormjax.evaluation import macs
from wormjax.lottery import RegroupSettings, block_apply, refill, regroup
from wormjax.lottery._block_products import unrolled


def _run(net, ticket, x=None):
    x = net.x if x is None else x
    return np.asarray(jax.jit(ticket.apply)(ticket.params, ticket.state, x)[0])


@pytest.mark.parametrize("fold", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("granularity", ["input_channel", "element"])
def test_k1_k2_k4_k5_k7_a_chain_runs_in_blocks(chained, granularity, fold):
    """Strides 1 and 2, SAME on an odd map, weights of both signs, biases."""
    how = RegroupSettings(granularity=granularity, parts=3)
    found = regroup(chained.groups, chained.masks("abc", 0.25), settings=how)
    params = wj.apply_masks(chained.params, found.masks)
    ticket = block_apply(chained.groups, found.blocks, params, chained.state, fold=fold)
    masked = chained.output(params)
    np.testing.assert_allclose(_run(chained, ticket), masked, atol=1e-4)
    assert np.ptp(masked) > 0.1
    counted = macs(ticket.apply, ticket.params, ticket.state, chained.x)
    unrolling = 0
    if granularity == "element":  # patches are made by a convolution that selects
        unrolling = counted - ticket.macs[1]
        assert unrolling > 0
    assert counted - unrolling == ticket.macs[1] == found.macs[1] < found.macs[0]
    assert ("b/kernel" in ticket.folded) == fold
    assert len(ticket.folded) == 3 or not fold


def test_folded_layers_permute_nothing(chained):
    found = regroup(chained.groups, chained.masks("abc", 0.25), settings=RegroupSettings(parts=3))
    params = wj.apply_masks(chained.params, found.masks)

    def gathers(fold):
        ticket = block_apply(chained.groups, found.blocks, params, chained.state, fold=fold)
        text = str(jax.make_jaxpr(ticket.apply)(ticket.params, ticket.state, chained.x))
        return text.count(" gather[")

    assert gathers(False) - gathers(True) == 3


@pytest.mark.slow
def test_residual_and_depthwise_networks_run_in_blocks(streamed):
    found = regroup(streamed.groups, streamed.masks("bcde", 0.3), settings=RegroupSettings(parts=2))
    params = wj.apply_masks(streamed.params, found.masks)
    ticket = block_apply(streamed.groups, found.blocks, params, streamed.state)
    np.testing.assert_allclose(_run(streamed, ticket), streamed.output(params), atol=1e-4)
    assert ticket.params["e"]["kernel"].shape == (3, 3, 1, 10)  # depthwise runs as it did


@pytest.mark.slow
def test_a_shrunk_network_runs_in_blocks(chained):
    found = refill(chained.groups, chained.params, chained.masks("ab"))
    small = wj.shrink(found.plan, wj.apply_masks(chained.params, found.masks), state=chained.state)
    groups = wj.find_groups(small.apply, small.params, chained.x, state=small.state)
    masks = jax.tree.map(lambda _: jnp.array(True), small.params)
    masks["b"]["kernel"] = jnp.asarray(
        np.random.default_rng(0).random(small.params["b"]["kernel"].shape) < 0.2
    )
    again = regroup(groups, masks, settings=RegroupSettings(parts=2))
    params = wj.apply_masks(small.params, again.masks)
    ticket = block_apply(groups, again.blocks, params, small.state)
    expected = jax.jit(small.apply)(params, small.state, chained.x)[0]
    np.testing.assert_allclose(_run(chained, ticket), np.asarray(expected), atol=1e-4)


def test_gradients_and_precision_of_the_blocks_are_those_of_the_network():
    rng = np.random.default_rng(0)
    params = {
        "a": rng.normal(size=(4, 6)).astype(np.float32),
        "b": rng.normal(size=(6, 2)).astype(np.float32),
    }

    def apply(p, x):
        return jax.nn.relu(x @ p["a"].astype(x.dtype)) @ p["b"].astype(x.dtype)

    x = rng.normal(size=(5, 4)).astype(np.float32)
    groups = wj.find_groups(apply, params, x)
    masks = {k: jnp.asarray(rng.random(p.shape) < 0.4) for k, p in params.items()}
    found = regroup(groups, masks, settings=RegroupSettings(parts=2))
    params = wj.apply_masks(params, found.masks)
    ticket = block_apply(groups, found.blocks, params, fold=False)
    whole = jax.jit(jax.grad(lambda p, x: jnp.sum(apply(p, x) ** 2)))(params, x)
    parts = jax.jit(jax.grad(lambda p, x: jnp.sum(ticket.apply(p, x) ** 2)))(ticket.params, x)
    for name in "ab":
        for block, grad in zip(ticket.blocks[name].blocks, parts[name], strict=True):
            expected = np.asarray(whole[name])[np.ix_(block.columns, block.rows)]
            np.testing.assert_allclose(np.asarray(grad), expected, rtol=2e-4, atol=1e-4)
    low = jax.eval_shape(ticket.apply, ticket.params, jnp.zeros((5, 4), jnp.bfloat16))
    assert low.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(2, 1, "SAME"), (5, 2, "SAME"), (4, 1, "VALID")]
)
def test_a_convolution_is_im2col_and_a_product(size, stride, padding):
    """Such as of a map that is smaller than the window, where the block products use it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, size, size, 3)).astype(np.float32)
    k = rng.normal(size=(3, 3, 3, 4)).astype(np.float32)

    def convolve(x, k):
        return jax.lax.conv_general_dilated(
            x, k, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    [eqn] = jax.make_jaxpr(convolve)(x, k).jaxpr.eqns
    found = jax.jit(lambda x, k: unrolled(eqn, x, k))(x, k)
    np.testing.assert_allclose(np.asarray(found), np.asarray(jax.jit(convolve)(x, k)), atol=1e-4)


@pytest.mark.parametrize(
    "granularity", ["input_channel", pytest.param("element", marks=pytest.mark.slow)]
)
def test_k3_channels_first_is_another_layout_of_the_same(granularity):
    rng = np.random.default_rng(0)
    params = {
        "a": rng.normal(size=(6, 3, 3, 3)).astype(np.float32),
        "b": rng.normal(size=(6, 2)).astype(np.float32),
    }
    x = rng.normal(size=(2, 3, 7, 7)).astype(np.float32)

    def apply(p, x):
        y = jax.lax.conv_general_dilated(
            x, p["a"], (2, 2), "VALID", dimension_numbers=("NCHW", "OIHW", "NCHW")
        )
        return jax.nn.relu(y).mean(axis=(2, 3)) @ p["b"]

    groups = wj.find_groups(apply, params, x)
    masks = {"a": jnp.asarray(rng.random(params["a"].shape) < 0.3), "b": jnp.array(True)}
    how = RegroupSettings(granularity=granularity, parts=2)
    found = regroup(groups, masks, settings=how)
    masked = wj.apply_masks(params, found.masks)
    ticket = block_apply(groups, found.blocks, masked)
    have, want = jax.jit(ticket.apply)(ticket.params, x), jax.jit(apply)(masked, x)
    np.testing.assert_allclose(np.asarray(have), np.asarray(want), atol=1e-5)


def test_k6_weights_outside_the_blocks_are_refused(chained):
    found = regroup(chained.groups, chained.masks("b", 0.2), settings=RegroupSettings(parts=2))
    with pytest.raises(ValueError, match=r"'b/kernel' has .* outside its blocks that are not zero"):
        block_apply(chained.groups, found.blocks, chained.params, chained.state)


def test_k8_blocks_are_known_by_full_paths():
    params = {"one": {"kernel": jnp.ones((3, 4))}, "two": {"kernel": jnp.ones((4, 2))}}
    groups = wj.find_groups(
        lambda p, x: jnp.tanh(x @ p["one"]["kernel"]) @ p["two"]["kernel"], params, jnp.ones((1, 3))
    )
    masks = jax.tree.map(lambda x: jnp.ones(x.shape, bool), params)
    assert list(regroup(groups, masks).blocks) == ["one/kernel", "two/kernel"]


def test_what_cannot_run_in_blocks_is_refused(chained):
    found = regroup(chained.groups, chained.masks("b", 0.2))
    params = wj.apply_masks(chained.params, found.masks)
    layer = found.blocks["b/kernel"]

    def refused(told, blocks, net=chained, params=params):
        with pytest.raises(ValueError, match=told):
            block_apply(net.groups, blocks, params, net.state)

    other = dataclasses.replace(found.blocks, layers={"d/kernel": layer})
    refused("'d/kernel', which the parameters do not have", other)
    refused(
        "no layer that was traced reads it",
        dataclasses.replace(found.blocks, layers={"b/bias": layer}),
    )
    refused("are of a weight with", dataclasses.replace(found.blocks, layers={"a/kernel": layer}))
    with pytest.raises(ValueError, match="with a state; pass it"):
        block_apply(chained.groups, found.blocks, params)


def test_a_weight_that_others_read_and_one_in_a_checkpoint_are_refused():
    params = {"a": jnp.eye(4), "b": jnp.ones((4, 2))}
    x = jnp.ones((1, 4))
    masks = {"a": jnp.eye(4, dtype=bool), "b": jnp.array(True)}

    def decayed(p, x):
        return jnp.tanh(x @ p["a"]) @ p["b"] + jnp.sum(p["a"])

    groups = wj.find_groups(decayed, params, x)
    found = regroup(groups, masks)
    blocks, params = found.blocks, wj.apply_masks(params, found.masks)
    with pytest.raises(ValueError, match="also read by reduce_sum"):
        block_apply(groups, blocks, params)

    def stored(p, x):
        return jax.checkpoint(lambda w, x: jnp.tanh(x @ w))(p["a"], x) @ p["b"]

    groups = wj.find_groups(stored, params, x)
    ticket = block_apply(groups, blocks, params)
    with pytest.raises(ValueError, match="cannot run in blocks there"):
        ticket.apply(ticket.params, x)
