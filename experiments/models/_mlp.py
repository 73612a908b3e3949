"""A multilayer perceptron."""

import dataclasses
import math
from typing import Literal

import jax
from flax import nnx

from experiments.models._checks import check_settings, check_widths
from experiments.models._initial import he_normal
from experiments.models._layers import batch_norm, head


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
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON gives a list
        check_settings(self)
        check_widths("widths", self.widths)
        if self.inputs < 1:
            raise ValueError(f"MLPConfig: inputs={self.inputs} must be at least 1.")

    @property
    def norm_channels(self) -> int:
        """Number of BatchNorm scales, the N of a channel ticket."""
        return sum(self.widths) if self.batch_norm else 0


class MLP(nnx.Module):
    """Flatten; linear, BatchNorm if wanted, ReLU for each width; linear.

    Hidden weights start from N(0, 2 / inputs). The default widths are LeNet-300-100.

    References:
      Frankle and Carbin, `The Lottery Ticket Hypothesis <https://arxiv.org/abs/1803.03635>`_, 2018
    """

    def __init__(self, config: MLPConfig, *, rngs: nnx.Rngs):
        self.layers = nnx.List(
            [
                _Hidden(i, o, config, rngs=rngs)
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


class _Hidden(nnx.Module):
    def __init__(self, inputs: int, outputs: int, config: MLPConfig, *, rngs: nnx.Rngs):
        self.dense = nnx.Linear(
            inputs,
            outputs,
            use_bias=not config.batch_norm,
            dtype=config.dtype,
            kernel_init=he_normal("in"),
            rngs=rngs,
        )
        self.norm = batch_norm(outputs, config.scale_init, rngs) if config.batch_norm else None
        self.dtype = config.dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.dense(x)
        if self.norm is not None:
            x = self.norm(x).astype(self.dtype)
        return nnx.relu(x)
