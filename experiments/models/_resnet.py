"""ResNet for small images, depth 6n+2."""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models._checks import check_settings, check_widths
from experiments.models._layers import ConvNorm, head


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    """Sizes of a CIFAR ResNet.

    Attributes:
      blocks: basic blocks in each stage, the paper's n: 3 is ResNet-20, 9 is ResNet-56.
      widths: channels of each stage; every stage after the first halves the map.
      shortcut: where a block changes shape, ``"A"`` subsamples and pads with zero channels, as the
        CIFAR networks of the paper do; ``"B"`` is a 1x1 convolution with BatchNorm.
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

    blocks: int
    widths: tuple[int, ...] = (16, 32, 64)
    shortcut: Literal["A", "B"] = "A"
    classes: int = 10
    channels: int = 3
    scale_init: float = 0.5
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON gives a list
        check_settings(self)
        check_widths("widths", self.widths)
        if self.blocks < 1:
            raise ValueError(f"ResNetConfig: blocks={self.blocks} must be at least 1.")
        if self.shortcut not in ("A", "B"):
            raise ValueError(f"ResNetConfig: shortcut={self.shortcut!r} is neither 'A' nor 'B'.")
        if self.shortcut == "A" and list(self.widths) != sorted(self.widths):
            raise ValueError(
                f"ResNetConfig: widths={self.widths} decrease, and shortcut 'A' can only add channels: "
                "use shortcut='B'."
            )

    @property
    def depth(self) -> int:
        """Layers with weights along the longest path, 6n+2 for three stages."""
        return 2 * self.blocks * len(self.widths) + 2

    @property
    def norm_channels(self) -> int:
        """Number of BatchNorm scales, the N of a channel ticket."""
        in_blocks = 2 * self.blocks * sum(self.widths)
        return self.widths[0] + in_blocks + (sum(self.widths[1:]) if self.shortcut == "B" else 0)


class ResNet(nnx.Module):
    """A 3x3 stem, stages of basic blocks, then mean and linear.

    ``layers/0`` is the stem and the blocks follow in order, so that the order of the leaves is the
    order of definition.

    References:
      He et al., `Deep Residual Learning for Image Recognition <https://arxiv.org/abs/1512.03385>`_,
      2015, section 4.2
    """

    def __init__(self, config: ResNetConfig, *, rngs: nnx.Rngs):
        block = functools.partial(
            BasicBlock,
            shortcut=config.shortcut,
            scale_init=config.scale_init,
            dtype=config.dtype,
            rngs=rngs,
        )
        inputs = config.widths[0]
        layers: list[nnx.Module] = [
            ConvNorm(
                config.channels,
                inputs,
                scale_init=config.scale_init,
                dtype=config.dtype,
                rngs=rngs,
            )
        ]
        for stage, outputs in enumerate(config.widths):
            for index in range(config.blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                layers.append(block(inputs, outputs, stride=stride))
                inputs = outputs
        self.layers = nnx.List(layers)
        self.head = head(inputs, config.classes, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map images ``[N, H, W, C]`` to logits ``[N, classes]``."""
        stem, *blocks = self.layers
        x = nnx.relu(stem(x))
        for block in blocks:
            x = block(x)
        return self.head(jnp.mean(x, axis=(1, 2)))


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions with BatchNorm beside a shortcut: ``relu(f(x) + shortcut(x))``."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        stride: int,
        shortcut: str,
        scale_init: float,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        layer = functools.partial(ConvNorm, scale_init=scale_init, dtype=dtype, rngs=rngs)
        project = shortcut == "B" and (stride > 1 or inputs != outputs)
        self.first = layer(inputs, outputs, stride=stride)
        self.second = layer(outputs, outputs)
        self.shortcut = layer(inputs, outputs, kernel=1, stride=stride) if project else None
        self.stride, self.wider = stride, outputs - inputs

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[N, H, W, C_in]`` to ``[N, H / stride, W / stride, C_out]``."""
        y = self.second(nnx.relu(self.first(x)))
        if self.shortcut is not None:
            return nnx.relu(y + self.shortcut(x))
        # Option A; the paper does not say where the zeros go, here they follow the old channels
        if self.stride > 1:
            x = x[:, :: self.stride, :: self.stride, :]
        if self.wider:
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.wider)))
        return nnx.relu(y + x)
