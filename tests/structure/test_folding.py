"""Constants of removed units: followed, judged, and carried into biases and running means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj
from wormjax.structure._folding import fold, verdicts
from wormjax.structure._groups import find_groups
from wormjax.structure._plan import plan
from wormjax.structure._shrink import shrink

C = 8


def conv(x, kernel, padding="VALID"):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=numbers)


def norm(x, p, stats):
    y = (x - stats["mean"][None, None, None]) * jax.lax.rsqrt(stats["var"] + 1e-5)[None, None, None]
    return y * p["scale"][None, None, None] + p["bias"][None, None, None]


def start(seed=0, bias=True):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    params = {
        "conv1": draw(3, 3, 2, C),
        "bn1": {"scale": draw(C), "bias": draw(C)},
        "conv2": draw(3, 3, C, 6),
        "bn2": {"scale": draw(6), "bias": draw(6)},
        "dense": {"kernel": draw(4 * 4 * 6, 5), **({"bias": draw(5)} if bias else {})},
    }
    stats = {
        f"bn{k}": {"mean": draw(n), "var": jnp.abs(draw(n)) + 0.5} for k, n in ((1, C), (2, 6))
    }
    return params, stats


def network(padding="VALID"):
    def apply(params, stats, x):
        x = jax.nn.relu(norm(conv(x, params["conv1"]), params["bn1"], stats["bn1"]))
        x = conv(x, params["conv2"], padding)
        x = jax.nn.relu(norm(x, params["bn2"], stats["bn2"]))[:, :4, :4]
        x = x.reshape(x.shape[0], -1) @ params["dense"]["kernel"]
        if "bias" in params["dense"]:
            x = x + params["dense"]["bias"][None]
        return x, stats

    return apply


def ticket_masks(params, *names):
    """Masks of every other channel on some leaves; the rest is unmasked."""
    masks = jax.tree.map(lambda _: jnp.array(True), params)
    for layer, leaf in names:
        masks[layer][leaf] = jnp.arange(params[layer][leaf].size) % 2 == 0
    return masks


IMAGES = jnp.asarray(np.random.default_rng(9).normal(size=(3, 8, 8, 2)), jnp.float32)
SCALES = (("bn1", "scale"), ("bn2", "scale"))


def judged(apply, params, stats, masks):
    groups = find_groups(apply, params, IMAGES, state=stats)
    planned = plan(groups, masks=masks)
    found = verdicts(groups, planned.atoms, masks)
    return {g.slices[0].path: found[g.atom] for g in groups if g.atom in found}, groups, planned


def test_scales_and_shifts_masked_is_exact():
    params, stats = start()
    masks = ticket_masks(params, *SCALES, ("bn1", "bias"), ("bn2", "bias"))
    told, *_ = judged(network(), params, stats, masks)
    assert {v.kind for v in told.values()} == {"exact"}
    assert len(told) == 2


def test_scales_alone_are_folded_into_a_mean_and_a_bias():
    params, stats = start()
    masks = ticket_masks(params, *SCALES)
    told, groups, planned = judged(network(), params, stats, masks)
    assert {v.kind for v in told.values()} == {"folded"}
    user = wj.apply_masks(params, masks)
    folded, folded_stats = fold(groups, planned.atoms, masks, params, stats)

    # the user's network, and the masked network with the constants carried over
    want, _ = network()(user, stats, IMAGES)
    got, _ = network()(wj.apply_masks(folded, planned.masks), folded_stats, IMAGES)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    without, _ = network()(wj.apply_masks(params, planned.masks), stats, IMAGES)
    assert np.abs(without - want).max() > 0.1, "there was nothing to fold"

    # by hand: the mean behind conv2 takes relu(shift) times the kernel's removed inputs
    gone = np.arange(C) % 2 == 1
    constant = np.maximum(np.float64(params["bn1"]["bias"]), 0) * gone
    extra = np.einsum("hwio,i->o", np.float64(params["conv2"]), constant)
    np.testing.assert_allclose(folded_stats["bn2"]["mean"], stats["bn2"]["mean"] - extra, rtol=1e-4)
    changed = [
        not np.array_equal(a, b)
        for a, b in zip(*map(jax.tree.leaves, (params, folded)), strict=True)
    ]
    assert sum(changed) == 1  # the last bias


@pytest.mark.parametrize(
    ("apply", "bias", "path", "why"),
    [
        (network("SAME"), True, "bn1/bias", "its padding is not the constant"),
        (network(), False, "bn2/bias", "no bias"),
    ],
)
def test_what_cannot_be_folded_says_why(apply, bias, path, why):
    params, stats = start(bias=bias)
    told, *_ = judged(apply, params, stats, ticket_masks(params, *SCALES))
    assert told[path].kind == "approximate"
    assert why in told[path].why
    assert sorted(v.kind for v in told.values()) == ["approximate", "folded"]


def test_live_units_are_approximate():
    params, stats = start()
    told, *_ = judged(network(), params, stats, ticket_masks(params, ("bn1", "bias")))
    [verdict] = told.values()
    assert verdict.kind == "approximate"
    assert "live units go into conv_general_dilated" in verdict.why
    assert "test_folding.py" in verdict.why


@pytest.mark.parametrize(
    "nonlinearity", [jax.nn.relu, jax.nn.gelu, jax.nn.silu, jnp.tanh, jax.nn.leaky_relu]
)
def test_every_constant_survives_its_nonlinearity(nonlinearity):
    rng = np.random.default_rng(1)
    params = {
        "a": jnp.asarray(rng.normal(size=(3, C)), jnp.float32),
        "scale": jnp.asarray(rng.normal(size=C), jnp.float32),
        "shift": jnp.asarray(rng.normal(size=C), jnp.float32),
        "b": jnp.asarray(rng.normal(size=(C, 2)), jnp.float32),
        "bias": jnp.zeros(2),
    }

    def apply(p, x):
        h = nonlinearity((x @ p["a"]) * p["scale"][None] + p["shift"][None])
        return h @ p["b"] + p["bias"][None]

    masks = {**jax.tree.map(lambda _: jnp.array(True), params), "scale": jnp.arange(C) < 5}
    x = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
    groups = find_groups(apply, params, x)
    planned = plan(groups, masks=masks)
    [verdict] = verdicts(groups, planned.atoms, masks).values()
    assert verdict.kind == "folded"
    folded, _ = fold(groups, planned.atoms, masks, params, None)
    want = apply(wj.apply_masks(params, masks), x)
    np.testing.assert_allclose(
        apply(wj.apply_masks(folded, planned.masks), x), want, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("extra", [(), (("bn1", "bias"), ("bn2", "bias"))])
def test_shrink_gives_the_network_that_the_masks_gave(extra):
    params, stats = start()
    masks = ticket_masks(params, *SCALES, *extra)
    _, _, planned = judged(network(), params, stats, masks)
    assert planned.is_lossless
    ticket = shrink(planned, params, stats, verify=True)
    want, _ = network()(wj.apply_masks(params, masks), stats, IMAGES)
    got, _ = ticket.apply(ticket.params, ticket.state, IMAGES)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_what_is_not_lossless_is_the_masked_network_still():
    params, stats = start()
    _, _, planned = judged(network("SAME"), params, stats, ticket_masks(params, *SCALES))
    assert not planned.is_lossless
    shrink(planned, params, stats, verify=True)
