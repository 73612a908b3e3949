"""Networks in Equinox, which are written for one example and mapped over the batch."""

import equinox as eqx
import jax
import jax.numpy as jnp

from zoo._case import Example, case, draws, images, tokens


def from_equinox(make, x: jax.Array, groups: int) -> Example:
    """Partition a module into arrays and the rest."""
    model = eqx.filter_eval_shape(make, jax.random.key(0))
    params, static = eqx.partition(model, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))

    def apply(params, x):
        return jax.vmap(eqx.combine(params, static))(x)

    return Example(apply, draws(params), None, (x,), groups)


class SqueezeExcite(eqx.Module):
    squeeze: eqx.nn.Conv2d
    excite: eqx.nn.Conv2d

    def __init__(self, width, key):
        a, b = jax.random.split(key)
        self.squeeze = eqx.nn.Conv2d(width, 3, 1, key=a)
        self.excite = eqx.nn.Conv2d(3, width, 1, key=b)

    def __call__(self, x):
        y = jnp.mean(x, axis=(1, 2), keepdims=True)
        return x * jax.nn.sigmoid(self.excite(jax.nn.silu(self.squeeze(y))))


class EfficientNet(eqx.Module):
    """A stem and one MBConv block with squeeze-excite."""

    stem: eqx.nn.Conv2d
    expand: eqx.nn.Conv2d
    norm: eqx.nn.GroupNorm
    depthwise: eqx.nn.Conv2d
    gate: SqueezeExcite
    project: eqx.nn.Conv2d
    head: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 6)
        self.stem = eqx.nn.Conv2d(3, 4, 3, 2, 1, key=keys[0])
        self.expand = eqx.nn.Conv2d(4, 8, 1, use_bias=False, key=keys[1])
        self.norm = eqx.nn.GroupNorm(8, 8)  # instance normalisation
        self.depthwise = eqx.nn.Conv2d(8, 8, 3, 1, 1, groups=8, key=keys[2])
        self.gate = SqueezeExcite(8, keys[3])
        self.project = eqx.nn.Conv2d(8, 4, 1, key=keys[4])
        self.head = eqx.nn.Linear(4, 5, key=keys[5])

    def __call__(self, x):
        x = jax.nn.silu(self.stem(jnp.transpose(x, (2, 0, 1))))
        y = jax.nn.silu(self.norm(self.expand(x)))
        y = self.gate(jax.nn.silu(self.depthwise(y)))
        x = x + self.project(y)
        return self.head(jnp.mean(x, axis=(1, 2)))


@case
def efficientnet():
    """Inverted residual gated by squeeze-excite, instance normalisation."""
    # the stream, the expansion, the squeeze
    return from_equinox(EfficientNet, images(8), 3)


class MixerBlock(eqx.Module):
    patch_mixer: eqx.nn.MLP
    hidden_mixer: eqx.nn.MLP
    norm1: eqx.nn.LayerNorm
    norm2: eqx.nn.LayerNorm

    def __init__(self, patches, width, key):
        a, b = jax.random.split(key)
        self.patch_mixer = eqx.nn.MLP(patches, patches, 5, depth=1, activation=jax.nn.gelu, key=a)
        self.hidden_mixer = eqx.nn.MLP(width, width, 6, depth=1, activation=jax.nn.gelu, key=b)
        self.norm1 = eqx.nn.LayerNorm((width, patches))
        self.norm2 = eqx.nn.LayerNorm((patches, width))

    def __call__(self, y):
        y = y + jax.vmap(self.patch_mixer)(self.norm1(y))
        y = y.T
        y = y + jax.vmap(self.hidden_mixer)(self.norm2(y))
        return y.T


class Mixer(eqx.Module):
    patches: eqx.nn.Conv2d
    blocks: list
    head: eqx.nn.Linear

    def __init__(self, key):
        a, b, c, d = jax.random.split(key, 4)
        self.patches = eqx.nn.Conv2d(3, 7, 2, 2, key=a)
        self.blocks = [MixerBlock(16, 7, b), MixerBlock(16, 7, c)]
        self.head = eqx.nn.Linear(7, 5, key=d)

    def __call__(self, x):
        x = self.patches(jnp.transpose(x, (2, 0, 1)))
        x = x.reshape(x.shape[0], -1)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(axis=1))


@case
def mlp_mixer():
    """Mixing over patches and over channels, transposed in between."""
    # the stream, and for each of two blocks two hidden widths
    return from_equinox(Mixer, images(8), 5)


class Recurrent(eqx.Module):
    embedding: eqx.nn.Embedding
    cell: eqx.nn.LSTMCell
    head: eqx.nn.Linear

    def __init__(self, key):
        a, b, c = jax.random.split(key, 3)
        self.embedding = eqx.nn.Embedding(11, 6, key=a)
        self.cell = eqx.nn.LSTMCell(6, 7, key=b)
        self.head = eqx.nn.Linear(7, 5, key=c)

    def __call__(self, ids):
        def step(carry, x):
            return self.cell(x, carry), None

        zero = jnp.zeros(self.cell.hidden_size)
        (hidden, _), _ = jax.lax.scan(step, (zero, zero), jax.vmap(self.embedding)(ids))
        return self.head(hidden)


@case
def lstm():
    """A scanned cell: its four gates are cut from one weight."""
    # the embedding and the hidden state, whose four gates are cut from one weight
    return from_equinox(Recurrent, tokens(), 2)
