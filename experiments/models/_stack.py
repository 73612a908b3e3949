"""The widths of a plain stack of convolutions, with poolings among them."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Literal, Self

from experiments.models._checks import check_settings, check_widths, freeze_lists

Widths = Sequence[int | Literal["M"]]


def channels_of(widths: Widths) -> list[int]:
    """Return the widths without the poolings.

    Example:
      >>> channels_of((16, "M", 32))
      [16, 32]
    """
    return [width for width in widths if width != "M"]


def with_channels(widths: Widths, outputs: Callable[[str], int]) -> tuple[int | Literal["M"], ...]:
    """Return the widths that the kernels ``layers/0/conv/kernel`` and so on have.

    Example:
      >>> with_channels((16, "M", 32), {"layers/0/conv/kernel": 5, "layers/1/conv/kernel": 7}.get)
      (5, 'M', 7)
    """
    layers = itertools.count()
    return tuple(
        "M" if width == "M" else outputs(f"layers/{next(layers)}/conv/kernel") for width in widths
    )


@dataclasses.dataclass(frozen=True)
class StackConfig:
    """Settings of every plain stack of convolutions.

    Attributes:
      widths: output channels of each convolution, and ``"M"`` for a 2x2 max pooling.
      classes: number of logits.
      channels: channels of the images.

    Raises:
      ValueError: a width that is neither a positive int nor ``"M"``, or another value out of range.
    """

    widths: tuple[int | Literal["M"], ...]
    classes: int = 10
    channels: int = 3

    def __post_init__(self):
        freeze_lists(self)
        check_settings(self)
        check_widths("widths", channels_of(self.widths))

    def at_widths(self, outputs: Callable[[str], int]) -> Self:
        """Return this network as wide as its kernels are, see :func:`narrowed`."""
        return dataclasses.replace(self, widths=with_channels(self.widths, outputs))
