"""LeNet-5, as Caffe and the sparse-training papers have it."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, Literal, Self

import jax
from flax import nnx

from experiments.models._checks import check_settings, check_widths, freeze_lists
from experiments.models._layers import Hidden, Unpadded, halve, head

_KERNEL = 5


@dataclasses.dataclass(frozen=True)
class LeNetConfig:
    """Sizes of a LeNet-5.

    Attributes:
      widths: output channels of each 5x5 convolution; a 2x2 max pooling follows each.
      hidden: units of each linear layer before the last.
      side: height and width of the images; it fixes the size of the flattened map.
      classes: number of logits.
      channels: channels of the images.
      batch_norm: whether BatchNorm follows each layer but the last, in place of its bias.
      scale_init: what the BatchNorm scales start from.
      dtype: of hidden layers and activations; all else, parameters and logits too, is float32.

    Raises:
      ValueError: a value out of range; images too small for the convolutions.

    Example:
      >>> config = LeNetConfig()
      >>> config.map_side**2 * config.widths[-1]  # inputs of the first linear layer
      800
    """

    widths: tuple[int, ...] = (20, 50)
    hidden: tuple[int, ...] = (500,)
    side: int = 28
    classes: int = 10
    channels: int = 1
    batch_norm: bool = False
    scale_init: float = 0.5
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        freeze_lists(self)
        check_settings(self)
        check_widths("widths", self.widths)
        check_widths("hidden", self.hidden)
        if self.map_side < 1:
            raise ValueError(
                f"LeNetConfig: images of side={self.side} are too small for {len(self.widths)} times a "
                f"{_KERNEL}x{_KERNEL} convolution without padding and a 2x2 pooling: use larger images "
                "or fewer widths."
            )

    @property
    def map_side(self) -> int:
        """Height and width of the map that is flattened."""
        side = self.side
        for _ in self.widths:
            side = (side - _KERNEL + 1) // 2
        return side

    @property
    def norm_channels(self) -> int:
        """Number of BatchNorm scales, the N of a channel ticket."""
        return sum(self.widths) + sum(self.hidden) if self.batch_norm else 0

    def at_widths(self, outputs: Callable[[str], int]) -> Self:
        """Return this network as wide as its kernels are, see :func:`narrowed`."""
        convs = len(self.widths)
        dense = range(convs, convs + len(self.hidden))
        return dataclasses.replace(
            self,
            widths=tuple(outputs(f"layers/{i}/conv/kernel") for i in range(convs)),
            hidden=tuple(outputs(f"layers/{i}/dense/kernel") for i in dense),
        )


class LeNet(nnx.Module):
    """5x5 convolutions without padding, ReLU and 2x2 max pooling; flatten; linear and ReLU; linear.

    The default widths are LeNet-5-Caffe, with 430,500 weights and 580 biases. ``layers`` holds the
    convolutions, then the linear layers but the last.

    References:
      LeCun et al., `Gradient-Based Learning Applied to Document Recognition
      <https://doi.org/10.1109/5.726791>`_, 1998; Caffe's has no activation before a pooling, here as
      in the sparse-training papers ReLU follows every layer
    """

    def __init__(self, config: LeNetConfig, *, rngs: nnx.Rngs):
        settings: dict[str, Any] = {
            "norm": config.batch_norm,
            "scale_init": config.scale_init,
            "dtype": config.dtype,
            "rngs": rngs,
        }
        maps = (config.channels, *config.widths)
        units = (config.map_side**2 * config.widths[-1], *config.hidden)
        self.layers = nnx.List(
            [
                *(Unpadded(i, o, kernel=_KERNEL, **settings) for i, o in itertools.pairwise(maps)),
                *(Hidden(i, o, **settings) for i, o in itertools.pairwise(units)),
            ]
        )
        self.head = head(config.hidden[-1], config.classes, rngs)
        self.side, self.convs = config.side, len(config.widths)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map images ``[N, side, side, C]`` to logits ``[N, classes]``.

        Raises:
          ValueError: images of another size.
        """
        if x.shape[1:3] != (self.side, self.side):
            raise ValueError(
                f"images of {x.shape[1]}x{x.shape[2]}, and this LeNet takes {self.side}x{self.side}: set "
                "side in its LeNetConfig."
            )
        for layer in self.layers[: self.convs]:
            x = halve(layer(x))
        x = x.reshape(x.shape[0], -1)
        for layer in self.layers[self.convs :]:
            x = layer(x)
        return self.head(x)
