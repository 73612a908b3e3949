"""The papers' counting rule against their numbers, and against hand counts of what it must recognise."""

import functools
import inspect

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from experiments.models import abstract, named
from wormjax.evaluation import Flops, flops, macs, parameters


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def of_model(name, classes, size=32, batch=1, **settings):
    view = abstract(named(name, classes=classes))
    apply = functools.partial(view.apply, train=settings.pop("train", False))
    return flops(apply, view.params, view.state, shape(batch, size, size, 3), **settings)


def test_o_f1_vgg16_by_layer():
    """The conv, BN, ReLU, pool and linear counts of the reference, without the last average pooling."""
    counted = of_model("vgg16", 100)
    assert counted == Flops(626393088, 102500, 552960, 276480, 122880)
    assert counted.total == int(counted) == 627447908


@pytest.mark.parametrize(("name", "total"), [("vgg16", 627355658), ("vgg11", 306116618)])
@pytest.mark.parametrize("train", [False, True])
def test_o_f1_vgg_on_ten_classes(name, total, train):
    assert of_model(name, 10, train=train).total == total


class Weights:
    """Hands out weights one after another; asked for shapes first, it remembers what the network takes."""

    def __init__(self, given=None):
        self.taken, self._given = [], None if given is None else iter(given)

    def __call__(self, *shape):
        self.taken.append(jax.ShapeDtypeStruct(shape, jnp.float32))
        return jnp.zeros(shape) if self._given is None else next(self._given)


def conv(weights, x, outputs, kernel, stride=1):
    pads = ((kernel // 2, kernel // 2),) * 2
    return jax.lax.conv_general_dilated(
        x,
        weights(kernel, kernel, x.shape[-1], outputs),
        (stride, stride),
        pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def norm(weights, x):
    mean, variance, scale, shift = (weights(x.shape[-1])[None, None, None] for _ in range(4))
    return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + shift


def block(weights, x, outputs, stride):
    y = jax.nn.relu(norm(weights, conv(weights, x, outputs, 3, stride)))
    y = norm(weights, conv(weights, y, outputs, 3))
    if x.shape != y.shape:
        x = norm(weights, conv(weights, x, outputs, 1, stride))
    return jax.nn.relu(x + y)


def pooled(x, window, strides, pad, operation, start):
    pads = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    return jax.lax.reduce_window(
        x, start, operation, (1, window, window, 1), (1, strides, strides, 1), pads
    )


def network(weights, x, *, mean=False):
    x = jax.nn.relu(norm(weights, conv(weights, x, 64, 7, 2)))
    x = pooled(x, 3, 2, 1, jax.lax.max, -jnp.inf)
    for stage, width in enumerate((64, 128, 256, 512)):
        x = block(weights, x, width, 1 if stage == 0 else 2)
        x = block(weights, x, width, 1)
    x = jnp.mean(x, axis=(1, 2)) if mean else pooled(x, 7, 7, 0, jax.lax.add, 0.0)[:, 0, 0] / 49
    return x @ weights(512, 1000) + weights(1000)[None]


def resnet18(*, mean=False):
    """Return ``apply(weights, images)`` and the abstract weights."""
    asked = Weights()
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    jax.eval_shape(functools.partial(network, asked), image)
    return lambda given, x: network(Weights(given), x, mean=mean), asked.taken


def test_o_f2_resnet18_on_imagenet():
    """Max pooling 9 x 64 x 56 x 56, the 7 x 7 average pooling 25,088, two ReLU calls a block."""
    apply, weights = resnet18()
    counted = flops(apply, weights, shape(1, 224, 224, 3))
    assert counted.total == 3637254632
    assert counted.pooling == 9 * 64 * 56 * 56 + 25088
    assert counted.activation == 64 * 112**2 + 4 * (
        64 * 56**2 + 128 * 28**2 + 256 * 14**2 + 512 * 7**2
    )
    assert (
        parameters(weights) == 11689512 + 2 * 4800
    )  # what torchvision has, and the running statistics


def test_a_mean_over_the_map_is_a_pooling_where_it_is_said():
    apply, weights = resnet18(mean=True)
    image = shape(1, 224, 224, 3)
    assert flops(apply, weights, image, global_pool=True).total == 3637254632
    assert flops(apply, weights, image).total == 3637254632 - 25088


def test_every_part_grows_with_the_batch():
    assert of_model("vgg11", 10, batch=3) == 3 * of_model("vgg11", 10)


def test_the_mac_only_rule():
    view = abstract(named("resnet20"))
    args = (view.params, view.state, shape(2, 32, 32, 3))
    counted = flops(view.apply, *args, rule="macs")
    assert counted.total == 2 * macs(view.apply, *args)
    assert (counted.normalisation, counted.activation, counted.pooling) == (0, 0, 0)
    assert counted.linear == 2 * 2 * 64 * 10


def folded(x, scale, shift, mean, var):
    factor = scale / jnp.sqrt(var + 1e-5)
    return x * factor + (shift - mean * factor)


def plain(x, scale, shift, mean, var):
    return (x - mean) / jnp.sqrt(1e-5 + var) * scale + shift


def factors(x, scale, shift, mean, var):
    return scale * ((x - mean) * jax.lax.rsqrt(var + 1e-5)) + shift


def clamped(x, scale, shift, mean, var):
    return (x - mean) * (scale * jax.lax.rsqrt(jnp.maximum(0.0, var) + 1e-5)) + shift


def guarded(x, scale, shift, mean, var):
    return (x - mean) / jnp.maximum(jnp.sqrt(var), 1e-3) * scale + shift


def on_batch(x, scale, shift, mean, var):
    axes = tuple(range(x.ndim - 1))
    mean, var = (f(x, axis=axes, keepdims=True) for f in (jnp.mean, jnp.var))
    return (x - mean) * jax.lax.rsqrt(var + 1e-5) * scale + shift


def layer_norm(x, scale, shift, mean, var):
    factor = jax.lax.rsqrt(jnp.var(x, axis=-1, keepdims=True) + 1e-5) * scale
    return (x - jnp.mean(x, axis=-1, keepdims=True)) * factor + shift


def rms_norm(x, scale, shift, mean, var):
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-5) * scale


@pytest.mark.parametrize("sizes", [(2, 4, 4, 6), (1, 1, 1, 6), (2, 6), (1, 6)])
@pytest.mark.parametrize(
    "form", [folded, plain, factors, clamped, guarded, on_batch, layer_norm, rms_norm]
)
def test_forms_of_normalisation(form, sizes):
    """Each is counted once, in its own function or not, with a ReLU behind it."""
    x, vector = shape(*sizes), shape(6)
    spread = (1,) * (len(sizes) - 1) + (6,)

    def layer(x, *vectors):
        return jax.nn.relu(jax.jit(form)(x, *(jnp.reshape(v, spread) for v in vectors)))

    counted = flops(layer, x, *[vector] * 4)
    entries = jnp.zeros(sizes).size
    assert counted == Flops(normalisation=2 * entries, activation=entries)


def test_layers_of_several_networks_at_once():
    def layer(x, w, b, scale, shift, mean, var):
        vectors = (v[None] for v in (b, scale, shift, mean, var))
        b, scale, shift, mean, var = vectors
        return jax.nn.relu(plain(x @ w + b, scale, shift, mean, var))

    sizes = [(2, 3), (3, 6), *[(6,)] * 5]
    counted = flops(layer, *(shape(*s) for s in sizes))
    assert counted == Flops(linear=2 * 7 * 6, normalisation=24, activation=12)
    assert flops(jax.vmap(layer), *(shape(4, *s) for s in sizes)) == 4 * counted


NO_NORMALISATION = {
    "a head's width": lambda x, m, v: x / jnp.sqrt(jnp.float32(x.shape[-1])),
    "adam": lambda x, m, v: x - m / (jnp.sqrt(v) + 1e-8),
    "a residual": lambda x, m, v: x + m * v,
}


@pytest.mark.parametrize("name", NO_NORMALISATION)
def test_what_is_no_normalisation(name):
    assert flops(NO_NORMALISATION[name], *[shape(2, 6)] * 3) == Flops()


def spread(b, rank):
    return jnp.reshape(b, (1,) * (rank - 1) + (-1,))


def convolved(x, w):
    return jax.lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(
    ("layer", "sizes", "expected"),
    [
        (lambda x, w, b: x @ w + spread(b, 2), [(2, 3), (3, 5), (5,)], Flops(linear=2 * 7 * 5)),
        (lambda x, w, b: spread(b, 2) + x @ w, [(2, 3), (3, 5), (5,)], Flops(linear=2 * 7 * 5)),
        (lambda x, w, b: (w.T @ x.T).T + spread(b, 2), [(2, 3), (3, 5), (5,)], Flops(linear=70)),
        (lambda x, w, b: x @ w + x, [(3, 3), (3, 3), (3,)], Flops(linear=54)),  # a residual
        (lambda x, w, b: x @ w + b, [(1, 3), (3, 5), (1, 5)], Flops(linear=30)),  # may be one
        (lambda x, w, b: x @ w + jnp.sum(b), [(2, 3), (3, 5), (5,)], Flops(linear=60)),
        (
            lambda x, w, b: convolved(x, w) + spread(b, 4),
            [(2, 4, 4, 3), (3, 3, 3, 5), (5,)],
            Flops(convolution=(2 * 9 * 3 + 1) * 5 * 2 * 16),
        ),
    ],
)
def test_a_bias_is_of_the_features_size_and_of_lower_rank(layer, sizes, expected):
    assert flops(layer, *(shape(*s) for s in sizes)) == expected


def test_a_layer_of_flax_with_its_bias():
    graph, params = nnx.split(
        nnx.eval_shape(lambda: nnx.Conv(4, 6, (3, 3), feature_group_count=2, rngs=nnx.Rngs(0)))
    )
    counted = flops(lambda p, x: nnx.merge(graph, p)(x), params, shape(1, 5, 5, 4))
    assert counted == Flops(convolution=(2 * 9 * 2 + 1) * 6 * 25)


RELUS = {
    "jax.nn.relu": jax.nn.relu,
    "jax.nn.relu6": jax.nn.relu6,
    "maximum": lambda x: jnp.maximum(x, 0),
    "reversed": lambda x: jnp.maximum(0.0, x),
    "an array of zeros": lambda x: jnp.maximum(x, jnp.zeros_like(x)),
}


@pytest.mark.parametrize("name", RELUS)
def test_forms_of_relu(name):
    assert flops(RELUS[name], shape(2, 5)) == Flops(activation=10)


def test_other_activations_and_maxima_count_nothing():
    for fn in (jax.nn.gelu, jnp.tanh, jax.nn.softmax, lambda x: jnp.maximum(x, 1.0), jnp.max):
        assert flops(fn, shape(2, 5)) == Flops()
    assert flops(lambda i: jnp.maximum(i, 0), jax.ShapeDtypeStruct((4,), jnp.int32)) == Flops()


def test_loops_and_branches():
    def stack(x, kernels):
        return jax.lax.scan(lambda x, w: (jax.nn.relu(x @ w), None), x, kernels)[0]

    x, kernels = shape(2, 3), shape(4, 3, 3)
    assert flops(stack, x, kernels) == Flops(linear=4 * 36, activation=4 * 6)

    def branch(x, w):
        return jax.lax.cond(x[0, 0] > 0, lambda: jax.nn.relu(x @ w), lambda: jnp.tanh(x @ w))

    assert flops(branch, x, shape(3, 3)) == Flops(linear=36, activation=6)

    def loop(x):
        return jax.lax.while_loop(lambda x: x[0, 0] < 1, jax.nn.relu, x)

    assert flops(loop, x, while_trips=7) == Flops(activation=42)
    with pytest.raises(ValueError, match="give while_trips"):
        flops(loop, x)


def test_an_unknown_rule_is_an_error():
    with pytest.raises(ValueError, match=r"rule='thop'. Give one of early_bird, macs\."):
        inspect.unwrap(flops)(jnp.sin, 1.0, rule="thop")  # else the annotation refuses first
