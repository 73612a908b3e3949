"""ResNet with basic or bottleneck blocks, for small images and for ImageNet."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal, Self

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models._checks import check_settings, freeze_lists
from experiments.models._layers import ConvNorm, head
from experiments.models._residual import Block, at_widths, blocks_of, check_residual


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    """Sizes of a ResNet; as it stands, the CIFAR one of depth 6n+2.

    Attributes:
      blocks: blocks in each stage, the paper's n: 3 is ResNet-20, 9 is ResNet-56; or a number for
        each stage.
      widths: channels of each stage's residual stream; every stage after the first halves the map.
      shortcut: where a block changes the stream, ``"A"`` subsamples and pads with zero channels, as
        the CIFAR networks of the paper do; ``"B"`` is a 1x1 convolution with BatchNorm.
      block: ``"basic"`` has two 3x3 convolutions, ``"bottleneck"`` 1x1, 3x3 with the stride, 1x1.
      stem: ``"3x3"`` keeps the size of small images; ``"7x7"`` and a 3x3 max pooling divide it by 4.
      stem_width: channels of the stem where they are not the first stage's: its first block then
        changes the stream, too. None where the stem begins the first stage's stream.
      inner_widths: output channels of each convolution inside a block, block by block: one of a basic
        block, two of a bottleneck. None for the paper's, the stream's width or a quarter of it.
      classes: number of logits.
      channels: channels of the images.
      scale_init: what the BatchNorm scales start from (0.5 in Early-Bird, 1 in the paper).
      dtype: of convolutions and activations; all else, parameters and logits too, is float32.

    Raises:
      ValueError: a value out of range; with shortcut A, widths that decrease.

    Example:
      >>> config = ResNetConfig(blocks=3)
      >>> config.depth, config.norm_channels
      (20, 688)
    """

    blocks: int | tuple[int, ...]
    widths: tuple[int, ...] = (16, 32, 64)
    shortcut: Literal["A", "B"] = "A"
    block: Literal["basic", "bottleneck"] = "basic"
    stem: Literal["3x3", "7x7"] = "3x3"
    stem_width: int | None = None
    inner_widths: tuple[int, ...] | None = None
    classes: int = 10
    channels: int = 3
    scale_init: float = 0.5
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        freeze_lists(self)
        check_settings(self)
        check_residual(self)
        if self.shortcut not in ("A", "B"):
            raise ValueError(f"ResNetConfig: shortcut={self.shortcut!r} is neither 'A' nor 'B'.")
        if self.stem not in ("3x3", "7x7"):
            raise ValueError(f"ResNetConfig: stem={self.stem!r} is neither '3x3' nor '7x7'.")
        streams = [*filter(None, (self.stem_width,)), *self.widths]
        if self.shortcut == "A" and streams != sorted(streams):
            raise ValueError(
                f"ResNetConfig: widths={tuple(streams)} decrease, and shortcut 'A' can only add channels: "
                "use shortcut='B'."
            )

    @property
    def depth(self) -> int:
        """Layers with weights along the longest path, 6n+2 for three stages of basic blocks."""
        return sum(len(block.convolutions) for block in blocks_of(self)) + 2

    @property
    def norm_channels(self) -> int:
        """Number of BatchNorm scales, the N of a channel ticket."""
        blocks = blocks_of(self)
        convs = sum(conv.outputs for block in blocks for conv in block.convolutions)
        shortcuts = sum(b.outputs for b in blocks if b.changes and self.shortcut == "B")
        return blocks[0].inputs + convs + shortcuts

    def at_widths(self, outputs: Callable[[str], int]) -> Self:
        """Return this network as wide as its kernels are, see :func:`narrowed`."""
        return at_widths(self, outputs, "layers/0/conv/kernel")


class ResNet(nnx.Module):
    """A stem, stages of blocks, then mean and linear.

    ``layers/0`` is the stem and the blocks follow in order, so that the order of the leaves is the
    order of definition. The stride of a bottleneck is in its 3x3 convolution.

    References:
      He et al., `Deep Residual Learning for Image Recognition <https://arxiv.org/abs/1512.03385>`_,
      2015; its bottlenecks have the stride in the first 1x1 convolution
    """

    def __init__(self, config: ResNetConfig, *, rngs: nnx.Rngs):
        layer = functools.partial(
            ConvNorm, scale_init=config.scale_init, dtype=config.dtype, rngs=rngs
        )
        blocks = blocks_of(config)
        self.large = config.stem == "7x7"
        kernel, stride = (7, 2) if self.large else (3, 1)
        stem = layer(config.channels, blocks[0].inputs, kernel=kernel, stride=stride)
        self.layers = nnx.List(
            [stem, *(ResidualBlock(block, config.shortcut, layer) for block in blocks)]
        )
        self.head = head(config.widths[-1], config.classes, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map images ``[N, H, W, C]`` to logits ``[N, classes]``."""
        stem, *blocks = self.layers
        x = nnx.relu(stem(x))
        if self.large:
            x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for block in blocks:
            x = block(x)
        return self.head(jnp.mean(x, axis=(1, 2)))


class ResidualBlock(nnx.Module):
    """Convolutions with BatchNorm beside a shortcut: ``relu(f(x) + shortcut(x))``."""

    def __init__(self, sizes: Block, shortcut: str, layer: Callable[..., ConvNorm]):
        self.convs = nnx.List(
            [
                layer(conv.inputs, conv.outputs, kernel=conv.kernel, stride=conv.stride)
                for conv in sizes.convolutions
            ]
        )
        project = shortcut == "B" and sizes.changes
        self.shortcut = (
            layer(sizes.inputs, sizes.outputs, kernel=1, stride=sizes.stride) if project else None
        )
        self.stride, self.wider = sizes.stride, sizes.outputs - sizes.inputs

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[N, H, W, C_in]`` to ``[N, H / stride, W / stride, C_out]``."""
        *inner, last = self.convs
        y = x
        for conv in inner:
            y = nnx.relu(conv(y))
        y = last(y)
        if self.shortcut is not None:
            return nnx.relu(y + self.shortcut(x))
        # Option A; the paper does not say where the zeros go, here they follow the old channels
        if self.stride > 1:
            x = x[:, :: self.stride, :: self.stride, :]
        if self.wider:
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.wider)))
        return nnx.relu(y + x)
