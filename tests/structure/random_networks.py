"""Random networks as data: a list of operations, an interpreter of it, and a hypothesis strategy.

A network is written as a tuple of steps. The interpreter runs it on a ``Builder``, which either collects shapes of
parameters or reads their values; so the same text gives the parameters and the function.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

Step = tuple[str, int]
SIDE, BATCH = 4, 2


class Builder:
    """Hands out parameters by a running number, made when first asked for."""

    def __init__(self, params: dict[str, Any] | None = None):
        self.params = params
        self.made: dict[str, np.ndarray] = {}
        self._rng = np.random.default_rng(0)

    def __call__(self, *shape: int) -> jax.Array:
        name = f"p{len(self.made)}"
        fan = max(int(np.prod(shape[:-1])), 1)
        fresh = self._rng.normal(size=shape) / np.sqrt(fan) + (0.7 if len(shape) == 1 else 0)
        self.made[name] = fresh.astype(np.float32)
        return jnp.asarray(self.made[name] if self.params is None else self.params[name])


def _conv(p: Builder, x: jax.Array, width: int, side: int, groups: int = 1) -> jax.Array:
    kernel = p(side, side, x.shape[-1] // groups, width)
    numbers = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=groups
    )
    return y + p(width)[None, None, None]


def _affine(p: Builder, x: jax.Array) -> jax.Array:
    width = x.shape[-1]
    return x * p(width)[None, None, None] + p(width)[None, None, None]


def _layer_norm(p: Builder, x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    return _affine(p, centred * jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-3))


def _group_norm(p: Builder, x: jax.Array) -> jax.Array:
    if x.shape[-1] % 2:
        return _layer_norm(p, x)
    y = x.reshape(*x.shape[:-1], 2, x.shape[-1] // 2)
    centred = y - y.mean((1, 2, 4), keepdims=True)
    y = centred * jax.lax.rsqrt(jnp.mean(centred**2, (1, 2, 4), keepdims=True) + 1e-3)
    return _affine(p, y.reshape(x.shape))


def _residual(p: Builder, x: jax.Array, pick: int) -> jax.Array:
    y = jax.nn.relu(_affine(p, _conv(p, x, 3 + pick % 3, 1 + 2 * (pick % 2))))
    return x + _conv(p, y, x.shape[-1], 1)


def _gate(p: Builder, x: jax.Array, pick: int) -> jax.Array:
    """Squeeze and excite."""
    pooled = x.mean((1, 2), keepdims=True)
    hidden = jax.nn.silu(_conv(p, pooled, 2 + pick % 2, 1))
    return x * jax.nn.sigmoid(_conv(p, hidden, x.shape[-1], 1))


def _gated_linear(p: Builder, x: jax.Array, pick: int) -> jax.Array:
    a, b = jnp.split(_conv(p, x, 2 * (2 + pick % 3), 1), 2, axis=-1)
    return a * jax.nn.sigmoid(b)


def _shuffle(p: Builder, x: jax.Array, pick: int) -> jax.Array:
    width = 4 + 2 * (pick % 2)
    y = _conv(p, x, width, 1)
    shuffled = y.reshape(*y.shape[:-1], 2, width // 2).swapaxes(-1, -2).reshape(y.shape)
    return _conv(p, shuffled, width, 1, groups=2)


def _attend(p: Builder, x: jax.Array, pick: int) -> jax.Array:
    """Self-attention over the pixels, with two heads."""
    heads, size = 2, 2 + pick % 2
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    query, key, value = (
        (flat @ p(x.shape[-1], heads * size)).reshape(*flat.shape[:2], heads, size)
        for _ in range(3)
    )
    weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", query, key), axis=-1)
    mixed = jnp.einsum("bhts,bshd->bthd", weights, value).reshape(*flat.shape[:2], -1)
    return x + (mixed @ p(heads * size, x.shape[-1])).reshape(x.shape)


def _recur(p: Builder, x: jax.Array, pick: int) -> jax.Array:
    """A recurrent cell that scans the rows."""
    width = 3 + pick % 2
    into, back = p(x.shape[-1], width), p(width, width)

    def step(state, row):
        state = jnp.tanh(row @ into + state @ back)
        return state, state

    zero = jnp.zeros((x.shape[0], x.shape[2], width))
    return jnp.moveaxis(jax.lax.scan(step, zero, jnp.moveaxis(x, 1, 0))[1], 0, 1)


def _branches(p: Builder, x: jax.Array, pick: int) -> jax.Array:
    parts = [jax.nn.relu(_conv(p, x, 2 + (pick + k) % 3, 1 + 2 * (k % 2))) for k in range(2)]
    return jnp.concatenate([*parts, x] if pick % 2 else parts, axis=-1)


def _pool(p: Builder, x: jax.Array, pick: int) -> jax.Array:
    del p
    window = (1, 2, 2, 1)
    if pick % 2:
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, (1, 1, 1, 1), "SAME")
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, (1, 1, 1, 1), "SAME") / 4


def _listed(p: Builder, x: jax.Array, pick: int) -> jax.Array:
    """Channels by a list of positions: permuted, reversed, some of them, and beside those they come from."""
    del p
    width = x.shape[-1]
    order = np.random.default_rng(pick + width).permutation(width)
    if pick == 0:
        return x[..., order]
    if pick == 1:
        return x + 0.5 * x[..., ::-1]
    if pick == 2:
        return jnp.take(x, order[: max(width // 2, 2)], axis=-1)
    swapped = np.arange(width // 2 * 2).reshape(-1, 2)[:, ::-1].reshape(-1)
    return jax.nn.relu(x + x[..., np.append(swapped, np.arange(len(swapped), width))])


STEPS: dict[str, Callable[[Builder, jax.Array, int], jax.Array]] = {
    "conv": lambda p, x, k: _conv(p, x, 3 + k % 4, 1 + 2 * (k % 2)),
    "depthwise": lambda p, x, k: _conv(p, x, x.shape[-1], 3, groups=x.shape[-1]),
    "affine": lambda p, x, k: _affine(p, x),
    "layer_norm": lambda p, x, k: _layer_norm(p, x),
    "group_norm": lambda p, x, k: _group_norm(p, x),
    "nonlinearity": lambda p, x, k: (jax.nn.relu, jax.nn.gelu, jnp.tanh, jax.nn.silu)[k % 4](x),
    "residual": _residual,
    "gate": _gate,
    "gated_linear": _gated_linear,
    "shuffle": _shuffle,
    "attend": _attend,
    "recur": _recur,
    "branches": _branches,
    "pool": _pool,
    "listed": _listed,
    "remat": lambda p, x, k: jax.checkpoint(lambda a, s: jax.nn.relu(a * s[None, None, None]))(
        x, p(x.shape[-1])
    ),
}
HEADS = ("mean", "flatten")

networks = st.tuples(
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 3)), min_size=1, max_size=5),
    st.sampled_from(HEADS),
)


def _run(p: Builder, network: tuple[list[Step], str], x: jax.Array) -> jax.Array:
    steps, head = network
    x = jax.nn.relu(_conv(p, x, 5, 3))
    for name, pick in steps:
        x = STEPS[name](p, x, pick)
    flat = x.mean((1, 2)) if head == "mean" else x.reshape(x.shape[0], -1)
    return flat @ p(flat.shape[-1], 3) + p(3)[None]


def build(network: tuple[list[Step], str]) -> tuple[Callable[..., jax.Array], dict, jax.Array]:
    """Return the function, its parameters and an input."""
    draws = np.random.default_rng(1).normal(size=(BATCH, SIDE, SIDE, 2))
    x = jnp.asarray(draws, jnp.float32)
    p = Builder()
    jax.eval_shape(lambda x: _run(p, network, x), x)
    return lambda params, x: _run(Builder(params), network, x), dict(p.made), x
