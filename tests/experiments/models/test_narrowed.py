"""A shrunk network of the zoo runs natively, built from the ticket's widths."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.models import (
    ConvNetConfig,
    LeNetConfig,
    MLPConfig,
    MobileNetConfig,
    PreResNetConfig,
    ResNetConfig,
    VGGConfig,
    abstract,
    named,
    narrowed,
)
from wormjax._paths import leaf_names
from wormjax.structure import UnitScores, find_groups, load_ticket, plan, save_ticket, shrink

SMALL = {"channels": 2, "classes": 5}
MLP = MLPConfig(widths=(16, 9), inputs=2 * 8 * 8, batch_norm=True, classes=5)
# each network, and what must differ once half of every group is gone (the smaller half stays of odd ones)
CASES = {
    "vgg": (VGGConfig(widths=(8, "M", 12, 12), **SMALL), {"widths": (4, "M", 6, 6)}),
    "mlp": (MLP, {"widths": (8, 5)}),
    "bare mlp": (dataclasses.replace(MLP, batch_norm=False), {"widths": (8, 5)}),
    # the second stream is the first with eight channels more: of either part, half stays
    "resnet A": (ResNetConfig(blocks=(1, 2), widths=(6, 14), **SMALL), {"widths": (3, 7)}),
    "resnet B": (
        ResNetConfig(blocks=1, widths=(7, 12), shortcut="B", **SMALL),
        {"widths": (4, 6)},
    ),
    "bottleneck": (
        ResNetConfig(
            blocks=1,
            widths=(8, 12),
            shortcut="B",
            block="bottleneck",
            stem="7x7",
            stem_width=8,
            **SMALL,
        ),
        {"widths": (4, 6), "stem_width": 4, "inner_widths": (1, 1, 2, 2)},
    ),
    "preresnet": (
        PreResNetConfig(blocks=1, widths=(8, 12), stem_width=4, **SMALL),
        {"widths": (4, 6), "stem_width": 2, "inner_widths": (1, 1, 2, 2)},
    ),
    # the stem becomes as wide as the stream that its channels are changed to, and is changed still
    "wide": (
        PreResNetConfig(
            blocks=1, widths=(7, 10), stem_width=8, block="basic", shortcut="activation", **SMALL
        ),
        {"widths": (4, 5), "stem_width": 4},
    ),
    "mobilenet": (
        MobileNetConfig(widths=(4, 6, 8), strides=(1, 1, 2), **SMALL),
        {"widths": (2, 3, 4)},
    ),
    "lenet": (
        LeNetConfig(widths=(4, 6), hidden=(8,), side=16, **SMALL),
        {"widths": (2, 3), "hidden": (4,)},
    ),
    "convnet": (ConvNetConfig(widths=(4, "M", 6), **SMALL), {"widths": (2, "M", 3)}),
}


def images(config):
    side = 16 if isinstance(config, LeNetConfig) else 8
    return jnp.asarray(np.random.default_rng(0).normal(size=(4, side, side, 2)), jnp.float32)


@functools.cache
def cut(config, train=False, uneven=False):
    view = abstract(config)
    rng = np.random.default_rng(1)

    def anything(like):  # off the initial values, so that every leaf matters
        low = 0.5 if like.ndim == 1 else -0.5
        return jnp.asarray(rng.uniform(low, low + 1, size=like.shape), like.dtype)

    params, state = jax.tree.map(anything, (view.params, view.state))
    apply = functools.partial(view.apply, train=train)
    groups = find_groups(apply, params, images(config), state=state)
    scores = UnitScores({group.name: rng.random(group.size) for group in groups})
    scope = "global" if uneven else "group"
    return shrink(plan(groups, scores, keep=0.5, scope=scope), params, state)


def same(config, small, ticket, train=False):
    @jax.jit
    def both(params, state, x):
        native = abstract(small).apply(params, state, x, train=train)
        return native, ticket.apply(params, state, x)

    got, want = both(ticket.params, ticket.state, images(config))
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def slowly(names, slow):
    return [pytest.param(n, marks=pytest.mark.slow) if n in slow else n for n in names]


@pytest.mark.parametrize("name", CASES)
def test_o_p3_half_of_every_width_is_another_configuration(name):
    config, changed = CASES[name]
    assert narrowed(config, cut(config).widths) == dataclasses.replace(config, **changed)


@pytest.mark.parametrize("name", slowly(CASES, ["bare mlp", "resnet B", "wide"]))
def test_the_native_network_gives_the_same_logits(name):
    config, _ = CASES[name]
    ticket = cut(config)
    same(config, narrowed(config, ticket.widths), ticket)


@pytest.mark.parametrize("name", slowly(["vgg", "mlp", "preresnet"], ["mlp", "preresnet"]))
def test_the_native_network_trains_on_from_a_ticket_on_disk(name, tmp_path):
    config, changed = CASES[name]
    save_ticket(tmp_path / "t", cut(config, True))
    full = abstract(config)
    apply = functools.partial(full.apply, train=True)
    ticket = load_ticket(tmp_path / "t", apply, full.params, full.state)
    small = narrowed(config, ticket.widths)
    assert small == dataclasses.replace(config, **changed)
    same(config, small, ticket, train=True)


@pytest.mark.parametrize("name", slowly(["resnet A", "preresnet"], ["preresnet"]))
def test_every_block_may_have_a_width_of_its_own(name):
    config = dataclasses.replace(CASES[name][0], blocks=2)
    ticket = cut(config, uneven=True)
    small = narrowed(config, ticket.widths)
    assert len(set(small.inner_widths)) > 1
    same(config, small, ticket)


@pytest.mark.parametrize("name", CASES)
def test_whole_widths_are_the_configuration_itself(name):
    config, _ = CASES[name]
    params = abstract(config).params
    shapes = {n: x.shape for n, x in zip(leaf_names(params), jax.tree.leaves(params), strict=True)}
    assert narrowed(config, shapes) == config


def test_shapes_of_no_such_network_are_refused():
    config, _ = CASES["vgg"]
    shapes = cut(config).widths
    with pytest.raises(
        ValueError, match=r"'head/bias' of shape \(5,\), and the shapes given say \(6,\)"
    ):
        narrowed(config, {**shapes, "head/bias": (6,)})
    with pytest.raises(ValueError, match="'extra' of shape None"):
        narrowed(config, {**shapes, "extra": (1,)})
    with pytest.raises(ValueError, match=r"'layers/0/conv/kernel'.*the shapes given say None"):
        narrowed(config, {k: v for k, v in shapes.items() if k != "layers/0/conv/kernel"})
    with pytest.raises(ValueError, match=r"A ResNetConfig has a kernel 'layers/1/convs/0/conv"):
        narrowed(ResNetConfig(blocks=1), shapes)
    with pytest.raises(TypeError, match="got a str; it takes one of VGGConfig, ResNetConfig"):
        narrowed("vgg", shapes)


def test_a_stream_that_a_shortcut_cannot_widen_is_refused():
    """Zeros can only be added: shapes of a second stage that is narrower than the first are nobody's."""
    config, _ = CASES["resnet A"]
    shapes = cut(config).widths
    for block in (2, 3):
        name = f"layers/{block}/convs/1/conv/kernel"
        shapes = {**shapes, name: (*shapes[name][:-1], 2)}
    with pytest.raises(
        ValueError, match=r"widths=\(3, 2\) decrease, and shortcut 'A' can only add"
    ):
        narrowed(config, shapes)


def test_blocks_of_one_stage_share_their_stream():
    config, _ = CASES["resnet A"]
    name = "layers/3/convs/1/conv/kernel"
    shapes = cut(config).widths
    with pytest.raises(ValueError, match=rf"'{name}' of shape \(3, 3, 7, 7\), and .* 6\)"):
        narrowed(config, {**shapes, name: (*shapes[name][:-1], 6)})


def test_a_named_network_narrows():
    """Half of ResNet-50, by shapes alone."""
    config = named("resnet50", stem_width=32, widths=(128, 256, 512, 1024))
    params = abstract(config).params
    shapes = {n: x.shape for n, x in zip(leaf_names(params), jax.tree.leaves(params), strict=True)}
    assert narrowed(named("resnet50"), shapes) == config
