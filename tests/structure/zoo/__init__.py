"""Networks as their users write them, in Flax Linen, Flax NNX, Equinox and plain JAX, at small widths.

Each case is a function that returns an `Example`: the function, its parameters, its state and inputs.
"""

from zoo import _equinox, _linen_images, _linen_sequences, _nnx_images, _nnx_more, _plain  # noqa: F401  (each fills CASES)
from zoo._case import CASES, Example

__all__ = ["CASES", "Example"]
