"""ConvNeXt and a vision transformer in Flax NNX."""

import jax.numpy as jnp
from flax import nnx

from zoo._case import case, images
from zoo._nnx_images import from_nnx


class ConvNeXtBlock(nnx.Module):
    def __init__(self, width, rngs):
        self.depthwise = nnx.Conv(width, width, (7, 7), feature_group_count=width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, epsilon=1e-6, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)
        self.gamma = nnx.Param(jnp.full((width,), 1e-6))

    def __call__(self, x):
        y = self.down(nnx.gelu(self.up(self.norm(self.depthwise(x)))))
        return x + self.gamma[...] * y


class ConvNeXt(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 4, (2, 2), (2, 2), padding="VALID", rngs=rngs)
        self.norm = nnx.LayerNorm(4, rngs=rngs)
        self.first = ConvNeXtBlock(4, rngs)
        self.between = nnx.LayerNorm(4, rngs=rngs)
        self.downsample = nnx.Conv(4, 6, (2, 2), (2, 2), padding="VALID", rngs=rngs)
        self.second = ConvNeXtBlock(6, rngs)
        self.head_norm = nnx.LayerNorm(6, rngs=rngs)
        self.head = nnx.Linear(6, 5, rngs=rngs)

    def __call__(self, x):
        x = self.first(self.norm(self.stem(x)))
        x = self.second(self.downsample(self.between(x)))
        return self.head(self.head_norm(x.mean(axis=(1, 2))))


@case
def convnext():
    """Depthwise 7x7, LayerNorm, layer scale."""
    # a stream and a hidden width for each of two blocks
    return from_nnx(ConvNeXt, images(16), 4)


class EncoderBlock(nnx.Module):
    def __init__(self, width, rngs):
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            num_heads=3, in_features=width, qkv_features=12, decode=False, rngs=rngs
        )
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 10, rngs=rngs)
        self.down = nnx.Linear(10, width, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class ViT(nnx.Module):
    def __init__(self, rngs):
        width = 8
        self.patches = nnx.Conv(3, width, (4, 4), (4, 4), padding="VALID", rngs=rngs)
        self.token = nnx.Param(jnp.zeros((1, 1, width)))
        self.position = nnx.Param(jnp.zeros((1, 5, width)))
        self.blocks = nnx.List([EncoderBlock(width, rngs) for _ in range(2)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, 5, rngs=rngs)

    def __call__(self, x):
        x = self.patches(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        token = jnp.broadcast_to(self.token[...], (x.shape[0], 1, x.shape[-1]))
        x = jnp.concatenate([token, x], axis=1) + self.position[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


@case
def vit():
    """Patch embedding, class token, heads, query-key width, value width, hidden width."""
    # the stream; for each of two blocks heads, query-key width, value width, hidden width
    return from_nnx(ViT, images(8), 1 + 2 * 4)
