"""Networks whose every width is an argument, so that the narrow one can be built from scratch.

A network is a function of its widths, in the order in which its groups are found. All batches are of 4.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

BATCH, LAYERS, VOCABULARY = 4, 2, 31


class Built(NamedTuple):
    """A network of certain widths, all abstract, as `find_groups` takes it."""

    apply: Callable[..., Any]
    params: Any
    state: Any
    inputs: tuple


NETWORKS: dict[str, tuple[Callable[..., Built], tuple[int, ...]]] = {}


def network(*whole: int) -> Callable[[Callable[..., Built]], Callable[..., Built]]:
    """Enter a network under its function's name, with the widths that it has before anything goes."""

    def enter(make: Callable[..., Built]) -> Callable[..., Built]:
        NETWORKS[make.__name__] = make, whole
        return make

    return enter


def shaped(**shapes: tuple[int, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


def of_linen(call: Callable[[Any], Any], side: int) -> Built:
    """A function of an image, written with Linen layers."""

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return call(x)

    x = jax.ShapeDtypeStruct((BATCH, side, side, 3), jnp.float32)
    variables = jax.eval_shape(Network().init, jax.random.key(0), x)
    params = variables.pop("params")

    def apply(params, state, x):
        return Network().apply({"params": params, **state}, x), state

    return Built(apply, params, variables, (x,))


def conv(x, width, side=3, name=None, **kwargs):
    """Convolution, batch norm, relu."""
    x = nn.Conv(width, (side, side), use_bias=False, name=name, **kwargs)(x)
    norm = nn.BatchNorm(use_running_average=True, name=f"{name}_norm")
    return nn.relu(norm(x))


@network(16, 24, 32, 48, 64)
def vgg(*widths):
    def call(x):
        for k, width in enumerate(widths[:4]):
            x = conv(x, width, name=f"conv{k}")
            x = nn.max_pool(x, (2, 2), (2, 2)) if k % 2 else x
        x = nn.relu(nn.Dense(widths[4], name="dense")(x.reshape(x.shape[0], -1)))
        return nn.Dense(10, name="head")(x)

    return of_linen(call, 16)


@network(16, 24, 24, 64, 32, 40, 96)
def resnet(stem, a, b, first, c, d, second):
    """Bottlenecks as in ResNet-50, the second with a projection."""

    def call(x):
        x = nn.max_pool(conv(x, stem, 5, "a_stem", strides=2), (3, 3), (2, 2), padding="SAME")
        for k, (one, two, out, stride) in enumerate(((a, b, first, 1), (c, d, second, 2))):
            y = conv(x, one, 1, f"block{k}a")
            y = conv(y, two, 3, f"block{k}b", strides=stride)
            y = nn.Conv(out, (1, 1), use_bias=False, name=f"block{k}c")(y)
            x = nn.Conv(out, (1, 1), stride, use_bias=False, name=f"shortcut{k}")(x)
            x = nn.relu(x + y)
        return nn.Dense(10, name="head")(x.mean((1, 2)))

    return of_linen(call, 32)


@network(24, 48, 12, 32)
def mobile(stem, expanded, squeezed, out):
    """An inverted residual block with squeeze-excite, depthwise and pointwise."""

    def call(x):
        x = conv(x, stem, name="a_stem", strides=2)
        y = conv(x, expanded, 1, "b_expand")
        y = conv(y, expanded, 3, "c_depthwise", feature_group_count=expanded)
        gate = nn.silu(nn.Dense(squeezed, name="d_squeeze")(y.mean((1, 2), keepdims=True)))
        y = y * nn.sigmoid(nn.Dense(expanded, name="e_excite")(gate))
        x = x + nn.Conv(stem, (1, 1), use_bias=False, name="f_project")(y)
        return nn.Dense(10, name="head")(conv(x, out, 1, "g_last").mean((1, 2)))

    return of_linen(call, 16)


@network(24, 16, 16, 40)
def dense_concatenation(stem, first, second, transition):
    """As in DenseNet: every layer sees all before it."""

    def call(x):
        x = nn.Conv(stem, (3, 3), name="a_stem")(x)
        for k, width in enumerate((first, second)):
            y = nn.relu(nn.BatchNorm(use_running_average=True, name=f"b_norm{k}")(x))
            x = jnp.concatenate([x, nn.Conv(width, (3, 3), name=f"c_conv{k}")(y)], axis=-1)
        return nn.Dense(10, name="head")(conv(x, transition, 1, "d_last").mean((1, 2)))

    return of_linen(call, 16)


def layer_norm(x, scale):
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * scale


def attend(query, key, value):
    """Causal softmax attention of ``(batch, length, heads, width)`` arrays; the scale is that of 16."""
    logits = jnp.einsum("bthd,bshd->bhts", query, key) / 4.0
    causal = jnp.tril(jnp.ones(logits.shape[-2:], bool))
    weights = jax.nn.softmax(jnp.where(causal, logits, -1e9), axis=-1)
    return jnp.einsum("bhts,bshd->bthd", weights, value)


@network(64, 128, 4, 24, 16)
def transformer(stream, hidden, heads, of_value, size):
    """Scanned layers with layer norms, tied unembedding."""
    layers = shaped(
        norm1=(LAYERS, stream),
        qk=(LAYERS, stream, 2, heads, size),
        v=(LAYERS, stream, heads, of_value),
        out=(LAYERS, heads, of_value, stream),
        norm2=(LAYERS, stream),
        up=(LAYERS, stream, hidden),
        down=(LAYERS, hidden, stream),
    )
    params = {**shaped(embedding=(VOCABULARY, stream), norm=(stream,)), "layers": layers}

    def layer(x, p):
        y = layer_norm(x, p["norm1"])
        query, key = jnp.einsum("btc,cnhd->nbthd", y, p["qk"])
        mixed = attend(query, key, jnp.einsum("btc,chd->bthd", y, p["v"]))
        x = x + jnp.einsum("bthd,hdc->btc", mixed, p["out"])
        return x + jax.nn.gelu(layer_norm(x, p["norm2"]) @ p["up"]) @ p["down"], None

    def apply(params, ids):
        x, _ = jax.lax.scan(layer, params["embedding"][ids], params["layers"])
        return layer_norm(x, params["norm"]) @ params["embedding"].T

    return Built(apply, params, None, (jax.ShapeDtypeStruct((BATCH, 12), jnp.int32),))


@network(64, 32, 64)
def recurrent(embedding, cell, hidden):
    """A gated cell by scan, then a gated linear unit."""
    params = shaped(
        embedding=(VOCABULARY, embedding),
        f_into=(3, embedding, cell),
        f_back=(3, cell, cell),
        gate=(cell, 2, hidden),
        head=(hidden, 10),
    )

    def apply(params, ids):
        def step(h, x):
            into = jnp.einsum("bc,ncd->nbd", x, params["f_into"])
            back = jnp.einsum("bc,ncd->nbd", h, params["f_back"])
            reset, update = jax.nn.sigmoid(into[:2] + back[:2])
            h = update * h + (1 - update) * jnp.tanh(into[2] + reset * back[2])
            return h, None

        xs = jnp.swapaxes(params["embedding"][ids], 0, 1)
        h, _ = jax.lax.scan(step, jnp.zeros((BATCH, params["f_back"].shape[-1])), xs)
        a, b = jnp.moveaxis(jnp.einsum("bc,cnd->bnd", h, params["gate"]), 1, 0)
        return (a * jax.nn.sigmoid(b)) @ params["head"]

    return Built(apply, params, None, (jax.ShapeDtypeStruct((BATCH, 12), jnp.int32),))
