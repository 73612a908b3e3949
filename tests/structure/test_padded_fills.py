"""What removed units leave behind where something is padded: a shortcut with new channels, a frame around a map."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj
from experiments.models import ResNetConfig, build
from wormjax.structure import find_groups, plan, shrink

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)


def draw(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


PARAMS = {
    "narrow": draw(3, 4),
    "first": {"scale": draw(4), "shift": draw(4)},
    "wide": draw(3, 8),
    "second": {"scale": draw(8), "shift": draw(8)},
    "kernel": draw(8, 2),
    "bias": draw(2),
}


def layer(x, kernel, norm):
    return jax.nn.relu(x @ kernel * norm["scale"][None] + norm["shift"][None])


def stream(params, x, beside=0.0):
    """Four channels, two new ones on either side, and what a second layer adds to all eight."""
    short = layer(x, params["narrow"], params["first"])
    short = jnp.pad(short, ((0, 0), (2, 2)), constant_values=beside)
    return (short + layer(x, params["wide"], params["second"])) @ params["kernel"] + params["bias"][
        None
    ]


def masks_of(*leaves):
    """Channels 0 and 3 of eight go in both layers; 3 is channel 1 of the first one."""
    masks = jax.tree.map(lambda _: jnp.array(True), PARAMS)
    for leaf in leaves:
        masks["first"][leaf] = jnp.array([True, False, True, True])
        masks["second"][leaf] = jnp.array([False, True, True, False, True, True, True, True])
    return masks


@pytest.mark.parametrize(
    ("leaves", "beside", "kinds"),
    [
        (("scale", "shift"), 0.0, ["exact", "exact"]),
        (("scale",), 0.0, ["folded", "folded"]),
        (("scale", "shift"), 0.5, ["exact", "folded"]),  # 0.5 is what the removed new channel sends
    ],
)
def test_new_channels_send_the_number_that_pads(leaves, beside, kinds):
    apply, masks = functools.partial(stream, beside=beside), masks_of(*leaves)
    planned = plan(find_groups(apply, PARAMS, X), masks=masks)
    assert sorted(v.kind for v in planned.losses.values()) == kinds
    assert [len(k) - int(k.sum()) for k in planned.kept.values() if not k.all()] == [1, 1]
    ticket = shrink(planned, PARAMS)
    want = apply(wj.apply_masks(PARAMS, masks), X)
    np.testing.assert_allclose(ticket.apply(ticket.params, X), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("leaves", "kind"), [(("scale", "shift"), "exact"), (("scale",), "approximate")]
)
def test_a_frame_of_zeros_around_a_constant_is_no_constant(leaves, kind):
    def framed(params, x):
        maps = jnp.broadcast_to(layer(x, params["wide"], params["second"])[:, None], (4, 5, 8))
        return (
            jnp.pad(maps, ((0, 0), (1, 1), (0, 0))) @ params["kernel"] + params["bias"][None, None]
        )

    masks = masks_of(*leaves)
    used = {k: PARAMS[k] for k in ("wide", "second", "kernel", "bias")}
    planned = plan(find_groups(framed, used, X), masks={k: masks[k] for k in used})
    assert [v.kind for v in planned.losses.values()] == [kind]


def test_a_shortcut_of_a_cifar_resnet_is_exact():
    """Option A: the shortcut subsamples and pads with zero channels."""
    view = build(ResNetConfig(blocks=1, widths=(6, 10), channels=1), jax.random.key(0))
    apply = functools.partial(view.apply, train=False)
    groups = find_groups(apply, view.params, jnp.ones((2, 8, 8, 1)), state=view.state)
    masks = jax.tree.map(lambda score: score * 0 == 0, wj.scores.norm_scale(view.params))
    for layer in masks["layers"].values():
        for part in (layer, *layer.get("convs", {}).values()):
            if "norm" in part:
                width = part["norm"]["scale"].size
                part["norm"]["scale"] = jnp.arange(width) % 3 > 0
    masks = wj.extend_to_shift(view.params, masks)
    planned = plan(groups, masks=masks)
    assert len(planned.losses) == len(groups) == 4
    assert {v.kind for v in planned.losses.values()} == {"exact"}
