"""MobileNet-v1: depthwise and pointwise convolutions in turn."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal, Self

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models._checks import check_settings, check_widths, freeze_lists
from experiments.models._layers import ConvNorm, head


@dataclasses.dataclass(frozen=True)
class MobileNetConfig:
    """Sizes of a MobileNet-v1; as it stands, the one for images of 32x32.

    Attributes:
      widths: output channels of the stem and of each pointwise convolution.
      strides: of the stem and of each depthwise convolution.
      classes: number of logits.
      channels: channels of the images.
      scale_init: what the BatchNorm scales start from.
      dtype: of convolutions and activations; all else, parameters and logits too, is float32.

    Raises:
      ValueError: a value out of range, or not as many strides as widths.

    Example:
      >>> MobileNetConfig(widths=(8, 16), strides=(1, 2)).norm_channels
      32
    """

    widths: tuple[int, ...] = (32, 64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024)
    strides: tuple[int, ...] = (1, 1, 2, 1, 2, 1, 2, *(1,) * 5, 2, 1)
    classes: int = 10
    channels: int = 3
    scale_init: float = 0.5
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        freeze_lists(self)
        check_settings(self)
        check_widths("widths", self.widths)
        if len(self.strides) != len(self.widths):
            raise ValueError(
                f"MobileNetConfig: {len(self.strides)} strides for {len(self.widths)} widths: give one "
                "for the stem and one for each block."
            )
        for stride in self.strides:
            if not isinstance(stride, int) or stride < 1:
                raise ValueError(f"MobileNetConfig: strides holds {stride!r}, which is no stride.")

    @property
    def norm_channels(self) -> int:
        """Number of BatchNorm scales, the N of a channel ticket: depthwise ones count too."""
        return sum(self.widths) + sum(self.widths[:-1])

    def at_widths(self, outputs: Callable[[str], int]) -> Self:
        """Return this network as wide as its kernels are, see :func:`narrowed`."""
        blocks = range(1, len(self.widths))
        names = ["layers/0/conv/kernel", *(f"layers/{i}/pointwise/conv/kernel" for i in blocks)]
        return dataclasses.replace(self, widths=tuple(map(outputs, names)))


class MobileNet(nnx.Module):
    """A 3x3 stem, blocks of a depthwise 3x3 and a pointwise convolution, then mean and linear.

    BatchNorm and ReLU follow every convolution. ``layers/0`` is the stem.

    References:
      Howard et al., `MobileNets <https://arxiv.org/abs/1704.04861>`_, 2017
    """

    def __init__(self, config: MobileNetConfig, *, rngs: nnx.Rngs):
        layer = functools.partial(
            ConvNorm, scale_init=config.scale_init, dtype=config.dtype, rngs=rngs
        )
        widths, strides = config.widths, config.strides
        blocks = zip(widths[:-1], widths[1:], strides[1:], strict=True)
        self.layers = nnx.List(
            [
                layer(config.channels, widths[0], stride=strides[0]),
                *(SeparableBlock(i, o, stride, layer) for i, o, stride in blocks),
            ]
        )
        self.head = head(widths[-1], config.classes, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map images ``[N, H, W, C]`` to logits ``[N, classes]``."""
        stem, *blocks = self.layers
        x = nnx.relu(stem(x))
        for block in blocks:
            x = block(x)
        return self.head(jnp.mean(x, axis=(1, 2)))


class SeparableBlock(nnx.Module):
    """A 3x3 convolution of every channel by itself, then one of 1x1 across them."""

    def __init__(self, inputs: int, outputs: int, stride: int, layer: Callable[..., ConvNorm]):
        self.depthwise = layer(inputs, inputs, stride=stride, groups=inputs)
        self.pointwise = layer(inputs, outputs, kernel=1)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[N, H, W, C_in]`` to ``[N, H / stride, W / stride, C_out]``."""
        return nnx.relu(self.pointwise(nnx.relu(self.depthwise(x))))
