"""Networks at their real sizes, in Flax NNX as its users write them: ResNet-50, and encoders such as BERT."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from wormjax.adapters import View, from_nnx


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    """Sizes of a bottleneck ResNet for ImageNet; as it stands, ResNet-50.

    Attributes:
      blocks: of each stage.
      width: of the stem and of the first stage's bottlenecks; every stage doubles it.
    """

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        """Make the network."""
        return _ResNet(self, rngs)


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Sizes of a transformer encoder with a classifier on its first token; as it stands, BERT-base.

    Attributes:
      layers: how many.
      width: of the residual stream.
      heads: of the attention.
      depth: of each head.
      hidden: of the feed-forward layers.
      vocabulary: number of tokens.
      positions: longest input.
    """

    layers: int = 12
    width: int = 768
    heads: int = 12
    depth: int = 64
    hidden: int = 3072
    vocabulary: int = 30522
    positions: int = 512

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        """Make the network."""
        return _Encoder(self, rngs)


def abstract(config: ResNetConfig | EncoderConfig) -> View:
    """Describe a network without making its weights."""
    return from_nnx(nnx.eval_shape(lambda: config.build(nnx.Rngs(0))))


def build(config: ResNetConfig | EncoderConfig, key: Key[Array, ""]) -> View:
    """Make a network with fresh weights."""
    params, state = jax.jit(lambda key: from_nnx(config.build(nnx.Rngs(params=key)))[1:])(key)
    return View(abstract(config).apply, params, state)


class _Bottleneck(nnx.Module):
    def __init__(self, inputs: int, width: int, stride: int, rngs: nnx.Rngs):
        conv = functools.partial(nnx.Conv, use_bias=False, rngs=rngs)
        self.conv1, self.norm1 = conv(inputs, width, (1, 1)), nnx.BatchNorm(width, rngs=rngs)
        self.conv2 = conv(width, width, (3, 3), stride)
        self.norm2 = nnx.BatchNorm(width, rngs=rngs)
        self.conv3 = conv(width, 4 * width, (1, 1))
        self.norm3 = nnx.BatchNorm(4 * width, rngs=rngs)
        changes = stride > 1 or inputs != 4 * width
        self.down = conv(inputs, 4 * width, (1, 1), stride) if changes else None
        self.down_norm = nnx.BatchNorm(4 * width, rngs=rngs) if changes else None

    def __call__(self, x: Float[Array, "n h w i"]) -> Float[Array, "n h2 w2 o"]:
        y = nnx.relu(self.norm1(self.conv1(x)))
        y = nnx.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        if self.down is not None and self.down_norm is not None:
            x = self.down_norm(self.down(x))
        return nnx.relu(x + y)


class _ResNet(nnx.Module):
    def __init__(self, config: ResNetConfig, rngs: nnx.Rngs):
        inputs = config.width
        self.stem = nnx.Conv(3, inputs, (7, 7), 2, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(inputs, rngs=rngs)
        blocks = []
        for stage, count in enumerate(config.blocks):
            width = config.width * 2**stage
            for k in range(count):
                blocks.append(_Bottleneck(inputs, width, 2 if stage and k == 0 else 1, rngs))
                inputs = 4 * width
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(inputs, 1000, rngs=rngs)

    def __call__(self, x: Float[Array, "n h w 3"]) -> Float[Array, "n classes"]:
        x = nnx.relu(self.norm(self.stem(x)))
        x = nnx.max_pool(x, (3, 3), (2, 2), "SAME")
        for block in self.blocks:
            x = block(x)
        return self.head(jnp.mean(x, axis=(1, 2)))


class _Layer(nnx.Module):
    def __init__(self, config: EncoderConfig, rngs: nnx.Rngs):
        self.attention = nnx.MultiHeadAttention(
            config.heads,
            config.width,
            config.heads * config.depth,
            decode=False,
            rngs=rngs,
        )
        self.norm1 = nnx.LayerNorm(config.width, rngs=rngs)
        self.up = nnx.Linear(config.width, config.hidden, rngs=rngs)
        self.down = nnx.Linear(config.hidden, config.width, rngs=rngs)
        self.norm2 = nnx.LayerNorm(config.width, rngs=rngs)

    def __call__(self, x: Float[Array, "n t d"]) -> Float[Array, "n t d"]:
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.down(nnx.gelu(self.up(x))))


class _Encoder(nnx.Module):
    def __init__(self, config: EncoderConfig, rngs: nnx.Rngs):
        self.word = nnx.Embed(config.vocabulary, config.width, rngs=rngs)
        self.position = nnx.Embed(config.positions, config.width, rngs=rngs)
        self.norm = nnx.LayerNorm(config.width, rngs=rngs)
        self.layers = nnx.List([_Layer(config, rngs) for _ in range(config.layers)])
        self.head = nnx.Linear(config.width, 10, rngs=rngs)

    def __call__(self, tokens: Int[Array, "n t"]) -> Float[Array, "n classes"]:
        positions = jnp.arange(tokens.shape[1])
        x = self.norm(self.word(tokens) + self.position(positions)[None])
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, 0])
