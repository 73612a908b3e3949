"""Masks of whole groups, compiled: the law that they are those of the plan that the same ticket makes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wormjax as wj
from tests.compiling import counted
from wormjax.structure import extend_to_groups, find_groups, plan


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


class Residual(nn.Module):
    """Convolutions with batch norm, a residual stream, a flattened head."""

    @nn.compact
    def __call__(self, x):
        def norm():
            return nn.BatchNorm(use_running_average=True)

        x = nn.relu(norm()(nn.Conv(6, (3, 3), use_bias=False)(x)))
        y = nn.relu(norm()(nn.Conv(4, (3, 3), use_bias=False)(x)))
        x = nn.relu(x + norm()(nn.Conv(6, (3, 3), use_bias=False)(y)))
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


def conv_net():
    model, x = Residual(), jnp.ones((1, 4, 4, 2))
    variables = model.init(jax.random.key(0), x)

    def apply(params, state, x):
        return model.apply({"params": params, "batch_stats": state}, x), state

    state = variables["batch_stats"]
    return find_groups(apply, variables["params"], x, state=state), variables["params"]


def heads():
    def apply(params, x):
        h = (x @ params["q"]).reshape(-1, 2, 3)
        return jnp.einsum("nhd,hdk->nk", jnp.tanh(h), params["o"])

    params = {"q": normal(0, 3, 6), "o": normal(1, 2, 3, 2)}
    return find_groups(apply, params, jnp.ones((1, 3))), params


def stream():
    def apply(params, x):
        h = x @ params["up"]
        return (h + jnp.tanh(h @ params["square"])) @ params["down"]

    params = {"up": normal(0, 3, 4), "square": normal(1, 4, 4), "down": normal(2, 4, 2)}
    return find_groups(apply, params, jnp.ones((1, 3))), params


def halves():
    def apply(params, x):
        parts = jnp.tanh(x @ params["a"]), x @ params["b"]
        return jnp.concatenate(parts, axis=1) @ params["c"]

    params = {"a": normal(0, 3, 4), "b": normal(1, 3, 2), "c": normal(2, 6, 2)}
    return find_groups(apply, params, jnp.ones((1, 3))), params


NETS = {"conv_net": conv_net, "heads": heads, "stream": stream, "halves": halves}
FOUND = {name: make() for name, make in NETS.items()}


def full(masks, params):
    return [
        np.broadcast_to(np.asarray(m), p.shape)
        for m, p in zip(jax.tree.leaves(masks), jax.tree.leaves(params), strict=True)
    ]


def agree(groups, params, masks, extended):
    wj.apply_masks(params, extended)  # a valid mask tree
    planned = plan(groups, masks=masks).masks
    for ours, theirs in zip(full(extended, params), full(planned, params), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def extend(groups, params, masks):
    extended = jax.jit(groups.extend)(masks)
    agree(groups, params, masks, extended)
    return extended


@pytest.mark.parametrize("name", NETS)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(data=st.data())
def test_law_the_extension_is_the_plans(name, data):
    groups, params = FOUND[name]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    leaves = []
    for p in jax.tree.leaves(params):
        shape = tuple(data.draw(st.sampled_from((1, n))) for n in p.shape)
        mask = rng.random(shape) < data.draw(st.sampled_from((0.0, 0.3, 0.8, 1.0)))
        silent = data.draw(st.sampled_from((True, False, False)))
        leaves.append(jnp.array(True) if silent else jnp.asarray(mask))
    masks = jax.tree.unflatten(jax.tree.structure(params), leaves)
    extended = extend_to_groups(groups, masks)
    if any(not m.all() for m in leaves) and all(m.all() for m in full(extended, params)):
        with pytest.raises(ValueError, match="nothing would become smaller"):
            plan(groups, masks=masks)  # what a compiled program cannot say
    else:
        agree(groups, params, masks, extended)


def test_a_batch_norm_ticket_masks_kernels_on_both_sides():
    groups, params = FOUND["conv_net"]
    scores = wj.scores.norm_scale(params)
    drawn = jax.tree.map(lambda s: jnp.ones(s.shape, bool), scores)
    drawn["BatchNorm_1"]["scale"] = jnp.array([True, False, False, True])
    extended = extend(groups, params, drawn)

    lost = np.array([1, 2])
    for leaf in ("scale", "bias"):
        assert np.flatnonzero(~np.asarray(extended["BatchNorm_1"][leaf])).tolist() == [1, 2]
    before, behind = (extended[f"Conv_{i}"]["kernel"] for i in (1, 2))
    assert before.shape == (1, 1, 6, 4)
    assert behind.shape == (1, 1, 4, 6)
    np.testing.assert_array_equal(
        ~before, np.broadcast_to(np.isin(np.arange(4), lost), (1, 1, 6, 4))
    )
    np.testing.assert_array_equal(
        ~behind, np.broadcast_to(np.isin(np.arange(4), lost)[:, None], (1, 1, 4, 6))
    )
    assert extended["Conv_0"]["kernel"].all()
    assert extended["Dense_0"]["bias"].ndim == 0


def test_a_residual_stream_keeps_the_union_of_its_producers_masks():
    groups, params = FOUND["conv_net"]
    masks = jax.tree.map(lambda _: jnp.array(True), params)
    masks["BatchNorm_0"]["scale"] = jnp.array([True, False, False, False, True, True])
    masks["BatchNorm_2"]["scale"] = jnp.array([False, True, False, False, True, True])
    extended = extend(groups, params, masks)
    for name in ("BatchNorm_0", "BatchNorm_2"):
        assert extended[name]["scale"].tolist() == [True, True, False, False, True, True]
    rows = np.asarray(extended["Dense_0"]["kernel"]).reshape(16, 6)  # positions, then channels
    np.testing.assert_array_equal(rows, [[True, True, False, False, True, True]] * 16)


def test_a_group_never_goes_as_a_whole():
    groups, params = FOUND["stream"]
    masks = {"up": jnp.zeros((1, 4), bool), "square": jnp.array(True), "down": jnp.array(True)}
    extended = extend(groups, params, masks)
    assert extended["up"].tolist() == [[True, False, False, False]]


def test_other_masks_compile_nothing_and_go_through_vmap():
    groups, _ = FOUND["heads"]
    compiled, programs = counted(groups.extend)
    trees = []
    for seed in range(3):
        mask = np.random.default_rng(seed).random((1, 6)) < 0.5
        trees.append({"q": jnp.asarray(mask), "o": jnp.array(True)})
        compiled(trees[-1])
    assert len(programs) == 1
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *trees)
    together = jax.vmap(groups.extend)(stacked)
    for seed, tree in enumerate(trees):
        one = jax.tree.map(lambda x, seed=seed: x[seed], together)
        jax.tree.map(np.testing.assert_array_equal, one, compiled(tree))


def test_in_a_part_of_the_tree_what_is_hidden_says_nothing():
    groups, _ = FOUND["stream"]
    part = {
        "up": jnp.array([[True, False, True, True]]),
        "square": optax.MaskedNode(),
        "down": jnp.array(True),
    }
    extended = extend_to_groups(groups, part)
    assert isinstance(extended["square"], optax.MaskedNode)
    assert extended["up"].tolist() == [[True, False, True, True]]
    assert extended["down"].tolist() == [[True], [False], [True], [True]]


def test_what_it_refuses():
    groups, params = FOUND["stream"]
    masks = jax.tree.map(lambda _: jnp.array(True), params)
    with pytest.raises(ValueError, match="'down' is a leaf of only one of the masks"):
        extend_to_groups(groups, {k: m for k, m in masks.items() if k != "down"})
    with pytest.raises(
        ValueError, match=r"'up' has shape \(1, 3\).*shape \(3, 4\).*Find the groups"
    ):
        extend_to_groups(groups, masks | {"up": jnp.ones((1, 3), bool)})
