"""A multilayer perceptron."""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal, Self

import jax
from flax import nnx

from experiments.models._checks import check_settings, check_widths, freeze_lists
from experiments.models._layers import Hidden, head


@dataclasses.dataclass(frozen=True)
class MLPConfig:
    """Sizes of a multilayer perceptron.

    Attributes:
      widths: units of each hidden layer.
      inputs: numbers in one example, whatever its shape: 64 for an 8x8 grey image.
      classes: number of logits.
      batch_norm: whether BatchNorm follows each hidden layer, in place of its bias.
      scale_init: what the BatchNorm scales start from.
      dtype: of hidden layers and activations; all else, parameters and logits too, is float32.

    Raises:
      ValueError: a value out of range.
    """

    widths: tuple[int, ...] = (300, 100)
    inputs: int = 784
    classes: int = 10
    batch_norm: bool = False
    scale_init: float = 0.5
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        freeze_lists(self)
        check_settings(self)
        check_widths("widths", self.widths)
        if self.inputs < 1:
            raise ValueError(f"MLPConfig: inputs={self.inputs} must be at least 1.")

    @property
    def norm_channels(self) -> int:
        """Number of BatchNorm scales, the N of a channel ticket."""
        return sum(self.widths) if self.batch_norm else 0

    def at_widths(self, outputs: Callable[[str], int]) -> Self:
        """Return this network as wide as its kernels are, see :func:`narrowed`."""
        names = [f"layers/{i}/dense/kernel" for i in range(len(self.widths))]
        return dataclasses.replace(self, widths=tuple(map(outputs, names)))


class MLP(nnx.Module):
    """Flatten; linear, BatchNorm if wanted, ReLU for each width; linear.

    Hidden weights start from N(0, 2 / inputs). The default widths are LeNet-300-100.

    References:
      Frankle and Carbin, `The Lottery Ticket Hypothesis <https://arxiv.org/abs/1803.03635>`_, 2018
    """

    def __init__(self, config: MLPConfig, *, rngs: nnx.Rngs):
        self.layers = nnx.List(
            [
                Hidden(
                    i,
                    o,
                    norm=config.batch_norm,
                    scale_init=config.scale_init,
                    dtype=config.dtype,
                    rngs=rngs,
                )
                for i, o in zip((config.inputs, *config.widths[:-1]), config.widths, strict=True)
            ]
        )
        self.head = head(config.widths[-1], config.classes, rngs)
        self.inputs = config.inputs

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map examples ``[N, ...]`` to logits ``[N, classes]``.

        Raises:
          ValueError: an example has not ``inputs`` numbers.
        """
        if math.prod(x.shape[1:]) != self.inputs:
            raise ValueError(
                f"examples of shape {x.shape[1:]} have {math.prod(x.shape[1:])} numbers, and this MLP "
                f"takes {self.inputs}: set inputs in its MLPConfig."
            )
        x = x.reshape(x.shape[0], -1)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)
