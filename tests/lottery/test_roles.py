"""Which kernels are prunable, counted against the specification's table of networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.models import ResNetConfig, abstract, named
from wormjax.lottery import layer_roles, prunable_layers

WRN_32_2 = ResNetConfig(blocks=5, widths=(32, 64, 128), shortcut="B", scale_init=1.0)


_abstract = functools.cache(abstract)


def _count(config, size=32, **switches):
    view = _abstract(config)
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    chosen = prunable_layers(view.apply, view.params, x, state=view.state, **switches)
    leaves = zip(jax.tree.leaves(view.params), jax.tree.leaves(chosen), strict=True)
    return sum(int(np.prod(p.shape)) for p, may in leaves if may)


def test_i4_i5_counts_of_small_networks_and_every_switch():
    vgg = named("digits_resnet").__class__(blocks=1, widths=(4, 8), shortcut="B")
    stem, first, second, third, fourth, shortcut, head = 108, 144, 144, 288, 576, 32, 80
    inner = first + second + third + fourth
    assert _count(vgg, 8) == inner + shortcut
    assert _count(vgg, 8, stem=True) == inner + shortcut + stem
    assert _count(vgg, 8, head=True) == inner + shortcut + head
    assert _count(vgg, 8, downsample=False) == inner


@pytest.mark.slow
def test_i4_i5_the_depthwise_switch():
    config = named("digits_mobilenet").__class__(widths=(4, 8), strides=(1, 2), channels=3)
    both = _count(config, 8), _count(config, 8, depthwise=False)
    assert both[0] - both[1] == _depthwise(config)


def _depthwise(config):
    shapes = [x.shape for x in jax.tree.leaves(abstract(config).params)]
    return sum(int(np.prod(s)) for s in shapes if len(s) == 4 and s[2] == 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "switches", "expected"),
    [
        (named("vgg16"), {"stem": True}, 14_710_464),
        (named("resnet18"), {}, 11_157_504),
        (named("resnet18"), {"downsample": False}, 11_157_504 - 172_032),
        (WRN_32_2, {}, 1_853_440),
        (named("mobilenet"), {}, 3_184_224),
        (named("mobilenet"), {"depthwise": False}, 3_184_224 - 44_640),
        (named("resnet50"), {}, 23_445_504),
        (named("resnet50"), {"downsample": False}, 23_445_504 - 2_768_896),
    ],
)
def test_i4_counts_of_the_papers_networks(config, switches, expected):
    assert _count(config, 64 if config == named("resnet50") else 32, **switches) == expected


def test_kernels_inside_a_loop_are_inner():
    params = {"in": jnp.ones((3, 4)), "kernel": jnp.ones((2, 4, 4)), "out": jnp.ones((4, 2))}

    def apply(p, x):
        y, _ = jax.lax.scan(lambda y, k: (jnp.tanh(y @ k), None), x @ p["in"], p["kernel"])
        return y @ p["out"]

    assert layer_roles(apply, params, jnp.ones((1, 3))) == {
        "in": "stem",
        "kernel": "inner",
        "out": "head",
    }


def test_nothing_to_prune():
    with pytest.raises(ValueError, match="No kernel is left"):
        prunable_layers(lambda p, x: x @ p["w"], {"w": jnp.ones((3, 2))}, jnp.ones((1, 3)))
