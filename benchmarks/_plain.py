"""The plainest JAX training step of the CIFAR ResNet: written by hand, with nothing but JAX.

It trains the parameters of `experiments.models`' ResNet (shortcut A) in their own tree, so that both steps
can be compared number by number.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

RATE, MOMENTUM, DECAY, EPSILON = 0.1, 0.9, 1e-4, 1e-5

Convolve = Callable[[Array, Array, int], Array]


class PlainState(NamedTuple):
    """Parameters, running statistics of BatchNorm, velocity."""

    params: PyTree
    stats: PyTree
    velocity: PyTree


def init(params: PyTree, stats: PyTree) -> PlainState:
    """Return the state before the first step."""
    return PlainState(params, stats, jax.tree.map(jnp.zeros_like, params))


def convolve(
    x: Float[Array, "n h w i"], kernel: Float[Array, "3 3 i o"], stride: int
) -> Float[Array, "n h2 w2 o"]:
    """Convolve with padding of one pixel on every side."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(1, 1), (1, 1)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def forward(
    params: PyTree, stats: PyTree, images: Float[Array, "n h w c"], convolve: Convolve = convolve
) -> tuple[Float[Array, "n classes"], PyTree]:
    """Return logits and the new running statistics."""

    def layer(x, params, stats, stride=1):
        x = convolve(x, params["conv"]["kernel"], stride)
        y, norm = _normalise(x, params["norm"], stats["norm"])
        return y, {"norm": norm}

    x, new = layer(images, params["layers"][0], stats["layers"][0])
    x, layers = jax.nn.relu(x), {0: new}
    for i in range(1, len(params["layers"])):
        p, s = params["layers"][i], stats["layers"][i]
        first, last = p["convs"][0], p["convs"][1]
        inputs, outputs = first["conv"]["kernel"].shape[2:]
        stride = 1 if inputs == outputs else 2
        y, new_first = layer(x, first, s["convs"][0], stride)
        y, new_last = layer(jax.nn.relu(y), last, s["convs"][1])
        x = x[:, ::stride, ::stride]
        x = jax.nn.relu(y + jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, outputs - inputs))))
        layers[i] = {"convs": {0: new_first, 1: new_last}}
    logits = jnp.mean(x, axis=(1, 2)) @ params["head"]["kernel"] + params["head"]["bias"][None]
    return logits, {"layers": layers}


def _normalise(x: Array, params: PyTree, stats: PyTree) -> tuple[Array, PyTree]:
    """Normalise by the batch."""
    mean = jnp.mean(x, axis=(0, 1, 2))
    var = jnp.mean(x * x, axis=(0, 1, 2)) - mean * mean
    scale = params["scale"] * lax.rsqrt(var + EPSILON)
    y = (x - mean[None, None, None]) * scale[None, None, None] + params["bias"][None, None, None]
    return y, {"mean": 0.9 * stats["mean"] + 0.1 * mean, "var": 0.9 * stats["var"] + 0.1 * var}


def step(
    state: PlainState,
    images: Float[Array, "n h w c"],
    labels: Int[Array, "n"],
    convolve: Convolve = convolve,
) -> tuple[PlainState, Float[Array, ""]]:
    """Take one step of gradient descent with momentum and weight decay; return the loss before it."""

    def objective(params):
        logits, stats = forward(params, state.stats, images, convolve)
        chosen = jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels]
        return -jnp.mean(chosen), stats

    (loss, stats), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
    velocity = jax.tree.map(
        lambda v, g, p: MOMENTUM * v + g + DECAY * p, state.velocity, grads, state.params
    )
    params = jax.tree.map(lambda p, v: p - RATE * v, state.params, velocity)
    return PlainState(params, stats, velocity), loss
