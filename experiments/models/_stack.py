"""The widths of a plain stack of convolutions, with poolings among them."""

import itertools
from collections.abc import Callable, Sequence
from typing import Literal

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
