"""ResNet with activations before the convolutions, and WideResNet, which is one."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal, Self

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models._checks import check_settings, freeze_lists
from experiments.models._layers import batch_norm, convolution, head
from experiments.models._residual import Block, at_widths, blocks_of, check_residual


@dataclasses.dataclass(frozen=True)
class PreResNetConfig:
    """Sizes of a pre-activation ResNet; as it stands, the CIFAR one of depth 9n+2 of Early-Bird.

    Attributes:
      blocks: blocks in each stage, the n: 11 is PreResNet-101, 18 is PreResNet-164; or a number for
        each stage.
      widths: channels of each stage's residual stream; every stage after the first halves the map.
      block: ``"bottleneck"`` has convolutions of 1x1, 3x3 with the stride, and 1x1; ``"basic"`` two of
        3x3.
      stem_width: channels of the stem, which the first block changes to the first stage's. None where
        the stem begins the first stage's stream.
      inner_widths: output channels of each convolution inside a block, block by block: two of a
        bottleneck, one of a basic block. None for the papers', a quarter of the stream's width or
        all of it.
      shortcut: what the 1x1 convolution reads where a block changes the stream: its raw ``"input"``,
        as in Early-Bird, or the ``"activation"`` that its first convolution reads, as in WideResNet.
      classes: number of logits.
      channels: channels of the images.
      scale_init: what the BatchNorm scales start from (0.5 in Early-Bird, 1 elsewhere).
      dtype: of convolutions and activations; all else, parameters and logits too, is float32.

    Raises:
      ValueError: a value out of range.

    Example:
      >>> config = PreResNetConfig(blocks=11)
      >>> config.depth, config.norm_channels
      (101, 7408)
    """

    blocks: int | tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256)
    block: Literal["basic", "bottleneck"] = "bottleneck"
    stem_width: int | None = 16
    inner_widths: tuple[int, ...] | None = None
    shortcut: Literal["input", "activation"] = "input"
    classes: int = 10
    channels: int = 3
    scale_init: float = 0.5
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        freeze_lists(self)
        check_settings(self)
        check_residual(self)
        if self.shortcut not in ("input", "activation"):
            raise ValueError(
                f"PreResNetConfig: shortcut={self.shortcut!r} is neither 'input' nor 'activation'."
            )

    @property
    def depth(self) -> int:
        """Layers with weights along the longest path, 9n+2 for three stages of bottlenecks.

        A WRN-28 has 26: its name counts three shortcuts and not the classifier.
        """
        return sum(len(block.convolutions) for block in blocks_of(self)) + 2

    @property
    def norm_channels(self) -> int:
        """Number of BatchNorm scales, the N of a channel ticket."""
        convs = [conv for block in blocks_of(self) for conv in block.convolutions]
        return sum(conv.inputs for conv in convs) + self.widths[-1]

    def at_widths(self, outputs: Callable[[str], int]) -> Self:
        """Return this network as wide as its kernels are, see :func:`narrowed`."""
        return at_widths(self, outputs, "layers/0/kernel")


class PreResNet(nnx.Module):
    """A bare 3x3 convolution, stages of blocks, BatchNorm and ReLU, then mean and linear.

    Neither the stem nor the 1x1 convolutions of the shortcuts have a BatchNorm. ``layers/0`` is the
    stem and the blocks follow in order; ``norm`` is the last, so that the order of the scales is the
    order of definition.

    References:
      He et al., `Identity Mappings in Deep Residual Networks <https://arxiv.org/abs/1603.05027>`_,
      2016. Shortcuts and initial values: You et al., `Drawing Early-Bird Tickets
      <https://arxiv.org/abs/1909.11957>`_, 2020. Wide basic blocks: Zagoruyko and Komodakis, `Wide
      Residual Networks <https://arxiv.org/abs/1605.07146>`_, 2016, here without dropout
    """

    def __init__(self, config: PreResNetConfig, *, rngs: nnx.Rngs):
        blocks = blocks_of(config)
        stem = convolution(config.channels, blocks[0].inputs, dtype=config.dtype, rngs=rngs)
        self.layers = nnx.List(
            [stem, *(PreActivationBlock(block, config, rngs=rngs) for block in blocks)]
        )
        self.norm = batch_norm(config.widths[-1], config.scale_init, rngs)
        self.head = head(config.widths[-1], config.classes, rngs)
        self.dtype = config.dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map images ``[N, H, W, C]`` to logits ``[N, classes]``."""
        for layer in self.layers:
            x = layer(x)
        x = nnx.relu(self.norm(x).astype(self.dtype))
        return self.head(jnp.mean(x, axis=(1, 2)))


class PreActivationBlock(nnx.Module):
    """BatchNorm, ReLU and convolution, twice or three times, beside a shortcut: ``f(x) + shortcut(x)``."""

    def __init__(self, sizes: Block, config: PreResNetConfig, *, rngs: nnx.Rngs):
        layer = functools.partial(convolution, dtype=config.dtype, rngs=rngs)
        self.convs = nnx.List(
            [
                _NormConv(
                    batch_norm(conv.inputs, config.scale_init, rngs),
                    layer(conv.inputs, conv.outputs, kernel=conv.kernel, stride=conv.stride),
                )
                for conv in sizes.convolutions
            ]
        )
        self.shortcut = (
            layer(sizes.inputs, sizes.outputs, kernel=1, stride=sizes.stride)
            if sizes.changes
            else None
        )
        self.reads_activation = config.shortcut == "activation"

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[N, H, W, C_in]`` to ``[N, H / stride, W / stride, C_out]``."""
        first, *others = self.convs
        active = first.activate(x)
        y = first.conv(active)
        for layer in others:
            y = layer.conv(layer.activate(y))
        if self.shortcut is not None:
            x = self.shortcut(active if self.reads_activation else x)
        return y + x


class _NormConv(nnx.Module):
    """BatchNorm in float32, ReLU and a convolution."""

    def __init__(self, norm: nnx.BatchNorm, conv: nnx.Conv):
        self.norm, self.conv = norm, conv

    def activate(self, x: jax.Array) -> jax.Array:
        return nnx.relu(self.norm(x).astype(x.dtype))
