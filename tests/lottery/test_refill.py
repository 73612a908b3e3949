"""Refill: counts and choices of the specification, whole rows, exact shrinking, and the reference's defects."""

import inspect
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj
from wormjax.lottery import (
    REFILL_PLUS,
    Network,
    branch,
    imp,
    keep_channels,
    refill,
    refill_count,
    refill_plus,
)

SIZE = 10**7  # of a layer, so that densities below are exact


@pytest.mark.parametrize(
    ("channels", "alive", "reference", "k", "reference_plus", "k_plus"),
    [(64, "51.2", 52, 52, 54, 54), (64, "32", 33, 32, 39, 39), (128, "41.9456", 42, 42, 60, 60),
     (512, "54.784", 55, 55, 147, 147), (512, "0.6144", 1, 1, 103, 103)],
)  # fmt: skip
def test_counts_of_the_specification(channels, alive, reference, k, reference_plus, k_plus):
    nonzeros = int(Fraction(alive) / channels * SIZE)
    scores = np.random.default_rng(0).permutation(channels).astype(float)
    for rho, by_code, by_paper in (
        (Fraction(0), reference, k),
        (REFILL_PLUS, reference_plus, k_plus),
    ):
        assert refill_count(nonzeros, SIZE, channels, rho)[0] == by_paper
        kept, _ = keep_channels(scores, nonzeros, SIZE, rho=rho, count="reference")
        assert kept.sum() == by_code
        kept, _ = keep_channels(scores, nonzeros, SIZE, rho=rho)
        np.testing.assert_array_equal(kept, scores >= channels - by_paper)


def test_rho_of_refill_plus_follows_from_two_published_densities():
    assert abs(float(REFILL_PLUS) - (0.4641 - 0.3284) / (1 - 0.3284)) < 0.003
    assert abs(0.3284 + (1 - 0.3284) * float(REFILL_PLUS) - 0.4627) < 1e-4


@pytest.mark.parametrize(
    ("k", "align", "width"), [(33, 8, 40), (33, 32, 64), (53, 8, 56), (53, 32, 64), (60, 8, 60)]
)
def test_widths_are_rounded_up(k, align, width):
    channels = 60 if k == 60 else 64
    assert refill_count(k, channels, channels, align=align) == (k, width)


def test_r4_ties_go_by_index_and_every_channel_may_stay():
    equal = np.ones(6)
    np.testing.assert_array_equal(keep_channels(equal, 1, 2)[0], [1, 1, 1, 0, 0, 0])
    assert keep_channels(equal, 6, 6, count="reference")[0].all()
    drawn = keep_channels(equal, 1, 2, count="reference", rng=np.random.default_rng(0))[0]
    assert drawn.sum() == 1  # nothing exceeds the threshold, and one of the tied is drawn


def test_r4_rows_are_whole_and_the_given_masks_stay(chained):
    masks = chained.masks("abc")
    before = jax.tree.map(np.array, masks)
    found = refill(chained.groups, chained.params, masks)
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, masks))
    inputs = np.ones(3, bool)
    for row, name in zip(found.rows, "abc", strict=True):
        mask = np.broadcast_to(found.masks[name]["kernel"], chained.params[name]["kernel"].shape)
        alive = mask.reshape(-1, mask.shape[-1]).any(axis=0)
        nonzeros = int(np.asarray(masks[name]["kernel"]).sum())
        assert alive.sum() == row.k == row.width == -(-nonzeros * row.channels // mask.size)
        # a column is empty only where its input channel is gone
        np.testing.assert_array_equal(mask[0, 0], inputs[:, None] & alive)
        inputs = alive
    rows = sum(
        r.width * chained.params[n]["kernel"].size // r.channels
        for r, n in zip(found.rows, "abc", strict=True)
    )
    total = sum(chained.params[n]["kernel"].size for n in "abc")
    assert found.nominal_density == pytest.approx(rows / total)
    assert "nominal density" in found.explain()


def test_r3_r7_the_default_score_is_the_l1_norm_of_what_the_mask_keeps(chained):
    masks = chained.masks("b")
    found = refill(chained.groups, chained.params, masks)
    kernel = np.where(masks["b"]["kernel"], chained.params["b"]["kernel"], 0).astype(np.float64)
    norms = np.abs(kernel).sum(axis=(0, 1, 2))
    kept = np.zeros(12, bool)
    kept[np.argsort(-norms)[: found.rows[0].k]] = True
    np.testing.assert_array_equal(np.asarray(found.masks["b"]["shift"]), kept)
    assert inspect.signature(refill).parameters["score"].default == "weight_l1"
    other = refill(chained.groups, chained.params, masks, score="remain")
    counts = np.asarray(masks["b"]["kernel"]).sum(axis=(0, 1, 2))
    kept[:] = False
    kept[np.argsort(-counts, kind="stable")[: found.rows[0].k]] = True
    np.testing.assert_array_equal(np.asarray(other.masks["b"]["shift"]), kept)


def _mlp(p, x):
    return jnp.tanh(jnp.tanh(x @ p["a"]) @ p["b"]) @ p["c"]


@pytest.fixture(scope="module")
def mlp():
    rng = np.random.default_rng(3)
    params = {
        k: rng.normal(size=s).astype(np.float32)
        for k, s in (("a", (3, 6)), ("b", (6, 8)), ("c", (8, 2)))
    }
    x = rng.normal(size=(5, 3)).astype(np.float32)
    masks = {
        "a": jnp.asarray(rng.random((3, 6)) < 0.5),
        "b": jnp.asarray(rng.random((6, 8)) < 0.5),
        "c": jnp.array(True),
    }
    return params, masks, x, wj.find_groups(_mlp, params, x)


def _by_hand(params, masks, x, score):
    """Scores of both layers in float64, saliency for the loss sum(output)."""
    a, b, c = (np.asarray(params[k], np.float64) * np.asarray(masks[k]) for k in "abc")
    first = x.astype(np.float64) @ a
    second = np.tanh(first) @ b
    if score != "saliency":
        power = np.abs if score == "act_l1" else np.square
        return power(first).sum(axis=0), power(second).sum(axis=0)
    to_second = c.sum(axis=1) * (1 - np.tanh(second) ** 2)
    to_first = to_second @ b.T * (1 - np.tanh(first) ** 2)
    return np.abs(first * to_first).sum(axis=0), np.abs(second * to_second).sum(axis=0)


@pytest.mark.parametrize("score", ["act_l1", "act_l2", "saliency"])
def test_r1_r2_activation_scores_are_of_channels_and_of_their_own_layer(mlp, score):
    params, masks, x, groups = mlp
    # of permuted examples: nothing changes
    setup = {"score": score, "loss": jnp.sum if score == "saliency" else None}
    found = refill(groups, params, masks, inputs=[x[::-1]], **setup)
    for name, numbers in zip("ab", _by_hand(params, masks, x, score), strict=True):
        [k] = [row.k for row in found.rows if row.path == name]
        kept = np.zeros(len(numbers), bool)
        kept[np.argsort(-numbers)[:k]] = True
        np.testing.assert_array_equal(np.asarray(found.masks[name]).any(axis=0), kept)


def test_scales_and_random_scores(chained):
    masks = chained.masks("b")
    found = refill(chained.groups, chained.params, masks, score="bn_gamma")
    kept = np.zeros(12, bool)
    kept[np.argsort(-np.abs(chained.params["b"]["scale"]))[: found.rows[0].k]] = True
    np.testing.assert_array_equal(np.asarray(found.masks["b"]["shift"]), kept)
    draws = [
        refill(chained.groups, chained.params, masks, score="random", key=jax.random.key(n))
        for n in (0, 0, 1)
    ]
    shifts = [np.asarray(d.masks["b"]["shift"]) for d in draws]
    np.testing.assert_array_equal(shifts[0], shifts[1])
    assert (shifts[0] != shifts[2]).any()


def test_r8_dead_channels_are_zero_behind_normalisation_and_relu(chained):
    found = refill(chained.groups, chained.params, chained.masks("a"))
    params = jax.tree.map(np.asarray, wj.apply_masks(chained.params, found.masks))["a"]
    dead = ~np.asarray(found.masks["a"]["scale"])
    assert dead.any()
    nothing = params["bias"]  # what a dropped kernel leaves of the convolution
    for mean, var in (
        tuple(chained.state["a"].values()),
        (nothing, np.ones(8)),
    ):  # evaluation, training
        normal = (nothing - mean) / np.sqrt(var) * params["scale"] + params["shift"]
        assert not normal[dead].any()
    code = refill(chained.groups, chained.params, chained.masks("a"), mask_dead_affine=False)
    assert code.masks["a"]["shift"].ndim == 0
    assert not code.plan.is_lossless


def _shrunk_output(net, found):
    ticket = wj.shrink(found.plan, wj.apply_masks(net.params, found.masks), state=net.state)
    return np.asarray(jax.jit(ticket.apply)(ticket.params, ticket.state, net.x)[0]), ticket


def test_r9_a_shrunk_chain_computes_what_the_masked_one_does(chained):
    found = refill_plus(chained.groups, chained.params, chained.masks("abc"))
    small, ticket = _shrunk_output(chained, found)
    masked = chained.output(wj.apply_masks(chained.params, found.masks))
    np.testing.assert_allclose(small, masked, atol=1e-4)
    assert np.ptp(masked) > 0.1
    assert ticket.params["b"]["kernel"].shape == (3, 3, found.rows[0].width, found.rows[1].width)
    assert found.plan.is_lossless


@pytest.mark.parametrize("residual", ["inner", pytest.param("union", marks=pytest.mark.slow)])
def test_r9_residual_streams_and_depthwise_blocks(streamed, residual):
    found = refill(streamed.groups, streamed.params, streamed.masks("bcde"), residual=residual)
    if residual == "union":  # of the other, test_one_network_three_executions.py runs two networks
        small, _ = _shrunk_output(streamed, found)
        masked = streamed.output(wj.apply_masks(streamed.params, found.masks))
        np.testing.assert_allclose(small, masked, atol=1e-4)
        assert np.ptp(masked) > 0.1
    rows = {row.path: row for row in found.rows}
    c = rows["c/kernel"]
    assert c.width < c.channels  # a layer on the stream drops channels of its own
    assert c.removed == 0  # the stem, which may not be pruned, keeps the stream whole
    assert rows["b/kernel"].removed > 0
    # the two layers of a depthwise block are one decision
    assert rows["d/kernel"].width == rows["e/kernel"].width == 10 - rows["e/kernel"].removed
    assert 3 not in found.plan.indices.get("a/kernel", {})


def test_a_stream_loses_what_all_of_its_layers_drop(streamed):
    masks = streamed.masks("ac", density=0.4)
    union = refill(streamed.groups, streamed.params, masks, residual="union")
    inner = refill(streamed.groups, streamed.params, masks)
    alive = [np.asarray(union.masks[n]["scale"]) for n in "ac"]
    [stream] = [
        kept for name, kept in union.plan.kept.items() if name == "a/kernel:3" or len(kept) == 6
    ]
    np.testing.assert_array_equal(stream, alive[0] | alive[1])
    assert all(kept.all() for kept in inner.plan.kept.values())


def test_r5_refill_inside_the_loop_runs_two_rounds(mlp):
    params, _, _, groups = mlp

    def train(network, masks, steps, rates):
        return network

    prunable = {"a": True, "b": True, "c": False}
    levels = imp(train, params, steps=2, learning_rate=0.1, rounds=2, rewind="1it", prunable=prunable,
                 restructure=lambda masks, network: refill(groups, network.params, masks).masks)  # fmt: skip
    for level in levels.levels[1:]:
        mask = np.asarray(level.masks["a"])
        assert (mask.all(axis=0) | ~mask.any(axis=0)).all()
    assert sum(levels[2].kept.values()) < sum(levels[1].kept.values()) < 66


def test_r6_from_iterative_pruning_to_a_small_network(mlp):
    params, _, x, groups = mlp

    @jax.jit
    def descend(params, masks, x, rate):
        grads = jax.grad(lambda p: jnp.mean((_mlp(wj.apply_masks(p, masks), x) - 1.0) ** 2))(params)
        return jax.tree.map(lambda p, g: p - rate * g, params, grads)

    def train(network, masks, steps, rates):
        params = network.params
        for rate in rates:
            params = descend(params, masks, x, np.float32(rate))
        return Network(params)

    levels = imp(train, params, steps=4, learning_rate=0.1, rounds=2, rewind="1it",
                 prunable={"a": True, "b": True, "c": False})  # fmt: skip
    found = refill(groups, levels[2].trained.params, levels[2].masks)
    trained = branch(levels, 2, "masks", masks=found.masks).run(train)
    ticket = wj.shrink(found.plan, trained.params)
    np.testing.assert_allclose(
        np.asarray(jax.jit(ticket.apply)(ticket.params, x)),
        np.asarray(jax.jit(_mlp)(trained.params, x)),
        atol=1e-5,
    )
    assert ticket.params["a"].shape[1] < 6


def test_wrong_input(mlp, chained):
    params, masks, x, groups = mlp
    with pytest.raises(ValueError, match="'a' has shape"):
        refill(groups, params, masks | {"a": jnp.ones((3, 7), bool)})
    with pytest.raises(ValueError, match="'a' keeps nothing"):
        refill(groups, params, masks | {"a": jnp.zeros((3, 6), bool)})
    with pytest.raises(ValueError, match=r"rho=1.* must lie in \[0, 1\)"):
        refill(groups, params, masks, rho=1)
    with pytest.raises(ValueError, match="align=0"):
        refill(groups, params, masks, align=0)
    with pytest.raises(ValueError, match="needs inputs="):
        refill(groups, params, masks, score="act_l1")
    with pytest.raises(ValueError, match="needs loss="):
        refill(groups, params, masks, score="saliency", inputs=[x])
    with pytest.raises(ValueError, match="other shapes"):
        refill(groups, params, masks, score="act_l1", inputs=[x[:2]])
    with pytest.raises(ValueError, match="needs key="):
        refill(groups, params, masks, score="random")
    with pytest.raises(ValueError, match="looks for a scale"):
        refill(groups, params, masks, score="bn_gamma")
