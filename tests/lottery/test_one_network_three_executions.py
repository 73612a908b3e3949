"""Masked, shrunk and block-executed: a block of MobileNet and one of a wide ResNet, with Flax's BatchNorm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import wormjax as wj
from wormjax.evaluation import macs
from wormjax.lottery import RegroupSettings, block_apply, refill, regroup, row_blocks


def _norm(name):
    return nn.BatchNorm(use_running_average=True, name=name)


class Separable(nn.Module):
    """Depthwise and pointwise, of stride 2, on an odd map; and a head."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(_norm("n0")(nn.Conv(6, (1, 1), use_bias=False, name="stem")(x)))
        x = nn.Conv(6, (3, 3), 2, feature_group_count=6, use_bias=False, name="depthwise")(x)
        x = nn.relu(_norm("n1")(x))
        x = nn.relu(_norm("n2")(nn.Conv(8, (1, 1), use_bias=False, name="pointwise")(x)))
        return nn.Dense(3, name="head")(x.mean(axis=(1, 2)))


class Wide(nn.Module):
    """Normalisation first, two convolutions of stride 2 and 1, and a projection beside them."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (1, 1), use_bias=False, name="stem")(x)
        y = nn.relu(_norm("n0")(x))
        beside = nn.Conv(8, (1, 1), 2, use_bias=False, name="projection")(y)
        y = nn.relu(_norm("n1")(nn.Conv(8, (3, 3), 2, use_bias=False, name="c1")(y)))
        y = nn.Conv(8, (3, 3), use_bias=False, name="c2")(y) + beside
        return nn.Dense(3, name="head")(nn.relu(_norm("n2")(y)).mean(axis=(1, 2)))


class Case:
    """A network with weights of both signs and statistics that are none of the first ones."""

    def __init__(self, module):
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(2, 5, 5, 3)).astype(np.float32)
        shapes = jax.eval_shape(module.init, jax.random.key(0), self.x)
        self.params, stats = (
            jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), shapes[part])
            for part in ("params", "batch_stats")
        )
        self.state = jax.tree_util.tree_map_with_path(
            lambda path, v: np.abs(v) + 0.5 if "var" in str(path) else v, stats
        )

        def apply(params, state, x):
            return module.apply({"params": params, "batch_stats": state}, x), state

        self.groups = wj.find_groups(apply, self.params, self.x, state=self.state)
        self.compiled = jax.jit(apply)
        self.masks = jax.tree.map(lambda _: jnp.array(True), self.params)

    def prune(self, names, density):
        rng = np.random.default_rng(1)
        for name in names:
            drawn = rng.random(self.params[name]["kernel"].shape) < density
            self.masks[name]["kernel"] = jnp.asarray(drawn)
        return self.masks

    def output(self, params):
        return np.asarray(self.compiled(params, self.state, self.x)[0])

    def of(self, ticket):
        return np.asarray(jax.jit(ticket.apply)(ticket.params, ticket.state, self.x)[0])


NETWORKS = [(Separable, ("stem", "depthwise", "pointwise")), (Wide, ("c1", "c2", "projection"))]


@pytest.mark.parametrize(("module", "names"), NETWORKS)
def test_channels(module, names):
    net = Case(module())
    found = refill(net.groups, net.params, net.prune(names, 0.5))
    params = wj.apply_masks(net.params, found.masks)
    masked = net.output(params)
    assert np.ptp(masked) > 0.1
    shrunk = wj.shrink(found.plan, params, state=net.state)
    assert sum(x.size for x in jax.tree.leaves(shrunk.params)) < sum(
        x.size for x in jax.tree.leaves(params)
    )
    ticket = block_apply(net.groups, row_blocks(net.groups, found.masks), params, net.state)
    # on a stream, of which nothing can be removed, layers run narrow only in blocks
    computed = macs(shrunk.apply, shrunk.params, shrunk.state, net.x)
    assert (ticket.macs[1] < computed) == (module is Wide)
    assert ticket.macs[1] < ticket.macs[0]
    for small in (shrunk, ticket):
        np.testing.assert_allclose(net.of(small), masked, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("module", "names"), NETWORKS)
def test_row_groups(module, names):
    net = Case(module())
    masks = net.prune([n for n in names if n != "depthwise"], 0.3)
    found = regroup(net.groups, masks, settings=RegroupSettings(parts=2))
    params = wj.apply_masks(net.params, found.masks)
    ticket = block_apply(net.groups, found.blocks, params, net.state)
    assert ticket.macs[1] < ticket.macs[0]
    np.testing.assert_allclose(net.of(ticket), net.output(params), atol=1e-4)
