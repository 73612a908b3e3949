"""A small convolutional network, without padding and, as it stands, without BatchNorm."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models._layers import Unpadded, halve, head
from experiments.models._stack import StackConfig, channels_of


@dataclasses.dataclass(frozen=True)
class ConvNetConfig(StackConfig):
    """Sizes of a small convolutional network.

    Attributes:
      widths: output channels of each 3x3 convolution, and ``"M"`` for a 2x2 max pooling.
      classes: number of logits.
      channels: channels of the images.
      batch_norm: whether BatchNorm follows each convolution, in place of its bias.
      scale_init: what the BatchNorm scales start from.
      dtype: of convolutions and activations; all else, parameters and logits too, is float32.

    Raises:
      ValueError: a width that is neither a positive int nor ``"M"``, or another value out of range.

    Example:
      >>> ConvNetConfig(batch_norm=True).norm_channels
      224
    """

    widths: tuple[int | Literal["M"], ...] = (32, "M", 64, "M", 128)
    batch_norm: bool = False
    scale_init: float = 0.5
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def norm_channels(self) -> int:
        """Number of BatchNorm scales, the N of a channel ticket."""
        return sum(channels_of(self.widths)) if self.batch_norm else 0


class ConvNet(nnx.Module):
    """3x3 convolution without padding and ReLU; max pooling where the widths say so; mean and linear.

    The default is the one of the sparse-training papers for 32x32: 94,304 weights and 234 biases.

    References:
      Nowak et al., `Fantastic Weights and How to Find Them <https://arxiv.org/abs/2306.12230>`_, 2023
    """

    def __init__(self, config: ConvNetConfig, *, rngs: nnx.Rngs):
        outputs = channels_of(config.widths)
        self.layers = nnx.List(
            [
                Unpadded(
                    i,
                    o,
                    kernel=3,
                    norm=config.batch_norm,
                    scale_init=config.scale_init,
                    dtype=config.dtype,
                    rngs=rngs,
                )
                for i, o in zip((config.channels, *outputs[:-1]), outputs, strict=True)
            ]
        )
        self.head = head(outputs[-1], config.classes, rngs)
        self.widths = config.widths

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map images ``[N, H, W, C]`` to logits ``[N, classes]``.

        Raises:
          ValueError: the images are too small for the number of layers.
        """
        layers = iter(self.layers)
        for width in self.widths:
            x = halve(x) if width == "M" else next(layers)(x)
        return self.head(jnp.mean(x, axis=(1, 2)))
