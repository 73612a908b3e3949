"""VGG with BatchNorm, as the pruning papers use it on CIFAR."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models._layers import ConvNorm, halve, head
from experiments.models._stack import StackConfig, channels_of


@dataclasses.dataclass(frozen=True)
class VGGConfig(StackConfig):
    """Sizes of a VGG.

    Attributes:
      widths: output channels of each 3x3 convolution, and ``"M"`` for a 2x2 max pooling.
      classes: number of logits.
      channels: channels of the images.
      scale_init: what the BatchNorm scales start from (0.5 in Early-Bird, 1 elsewhere).
      dtype: of convolutions and activations; all else, parameters and logits too, is float32.

    Raises:
      ValueError: a width that is neither a positive int nor ``"M"``, or another value out of range.

    Example:
      >>> VGGConfig(widths=(16, "M", 32)).norm_channels
      48
    """

    scale_init: float = 0.5
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def norm_channels(self) -> int:
        """Number of BatchNorm scales, the N of a channel ticket."""
        return sum(channels_of(self.widths))


class VGG(nnx.Module):
    """Convolution, BatchNorm, ReLU; max pooling where the widths say so; then mean and linear.

    The mean over the last map is the papers' 2x2 average pooling at 32x32, and takes other sizes too.
    Layers are ``layers/0``, ``layers/1``, ... in order of definition, pooling not counted.

    References:
      Simonyan and Zisserman, `Very Deep Convolutional Networks for Large-Scale Image Recognition
      <https://arxiv.org/abs/1409.1556>`_, 2014. Initial values: You et al., `Drawing Early-Bird
      Tickets <https://arxiv.org/abs/1909.11957>`_, 2020
    """

    def __init__(self, config: VGGConfig, *, rngs: nnx.Rngs):
        outputs = channels_of(config.widths)
        inputs = [config.channels, *outputs[:-1]]
        self.layers = nnx.List(
            [
                ConvNorm(i, o, scale_init=config.scale_init, dtype=config.dtype, rngs=rngs)
                for i, o in zip(inputs, outputs, strict=True)
            ]
        )
        self.head = head(outputs[-1], config.classes, rngs)
        self.widths = config.widths

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map images ``[N, H, W, C]`` to logits ``[N, classes]``.

        Raises:
          ValueError: the images are too small for the number of poolings.
        """
        layers = iter(self.layers)
        for width in self.widths:
            x = halve(x) if width == "M" else nnx.relu(next(layers)(x))
        return self.head(jnp.mean(x, axis=(1, 2)))
