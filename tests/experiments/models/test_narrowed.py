"""A shrunk network of the zoo runs natively, built from the ticket's widths."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj
from experiments.models import MLPConfig, ResNetConfig, VGGConfig, abstract, build, narrowed
from wormjax.structure import find_groups, load_ticket, plan, save_ticket, shrink

VGG = VGGConfig(widths=(8, "M", 12, 12), channels=2, classes=5)
MLP = MLPConfig(widths=(16, 9), inputs=2 * 8 * 8, batch_norm=True, classes=5)
BARE = dataclasses.replace(MLP, batch_norm=False)
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 2)), jnp.float32)


def cut(config, train=False):
    view = build(config, jax.random.key(0))
    # off their initial values, so that every leaf matters
    rng = np.random.default_rng(1)
    params, state = jax.tree.map(
        lambda x: x + jnp.asarray(np.abs(rng.normal(size=x.shape)) / 9, x.dtype),
        (view.params, view.state),
    )
    apply = functools.partial(view.apply, train=train)
    groups = find_groups(apply, params, IMAGES, state=state)
    scores = wj.scores.magnitude(params)
    return shrink(plan(groups, scores, keep=0.5, scope="group"), params, state)


@pytest.mark.parametrize(
    ("config", "widths"), [(VGG, (4, "M", 6, 6)), (MLP, (8, 5)), (BARE, (8, 5))]
)
@pytest.mark.parametrize("train", [False, True])
def test_the_native_network_gives_the_same_logits(config, widths, train, tmp_path):
    save_ticket(tmp_path / "t", cut(config, train))
    full = abstract(config)
    apply = functools.partial(full.apply, train=train)
    ticket = load_ticket(tmp_path / "t", apply, full.params, full.state)
    small = narrowed(config, ticket.widths)
    assert small == dataclasses.replace(config, widths=widths)

    got = abstract(small).apply(ticket.params, ticket.state, IMAGES, train=train)
    want = ticket.apply(ticket.params, ticket.state, IMAGES)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def test_shapes_of_no_such_network_are_refused():
    shapes = cut(VGG).widths
    with pytest.raises(
        ValueError, match=r"'head/bias' of shape \(5,\), and the shapes given say \(6,\)"
    ):
        narrowed(VGG, {**shapes, "head/bias": (6,)})
    with pytest.raises(ValueError, match="'extra' of shape None"):
        narrowed(VGG, {**shapes, "extra": (1,)})
    with pytest.raises(ValueError, match=r"'layers/0/conv/kernel'.*the shapes given say None"):
        narrowed(VGG, {k: v for k, v in shapes.items() if k != "layers/0/conv/kernel"})
    with pytest.raises(TypeError, match="got a ResNetConfig; it takes one of VGGConfig, MLPConfig"):
        narrowed(ResNetConfig(blocks=1), shapes)
