"""From an encoded file to pixels of one size, on the host; every draw is a function of its place.

Sets of one size are augmented on the device (`pad_crop_flip`). Photographs come in all sizes, so
their crops are cut before a batch can exist, by Pillow, in threads or worker processes. What is drawn
depends on (key, epoch, row) alone and not on which process comes to it first.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float64, UInt8


class Draws:
    r"""Uniform numbers of one example in one epoch, from a counter-based generator.

    Philox with the run's key, and :math:`(0, row, epoch, 0)` as its first counter. Its raw stream is
    one that NumPy promises never to change (its `Generator` may).

    Args:
      key: words of a PRNG key, ``jax.random.key_data(key)``: at most four of 32 bits.
      epoch: counted from 0.
      row: of the example in its source.

    Example:
      >>> first, again = Draws((0, 7), 2, row=5), Draws((0, 7), 2, row=5)
      >>> bool((first.uniform(3) == again.uniform(3)).all())
      True
    """

    def __init__(self, key: Sequence[int], epoch: int, row: int):
        words = np.zeros(4, np.uint32)
        words[: len(key)] = key
        counter = np.array([0, row, epoch, 0], np.uint64)
        self._philox = np.random.Philox(key=words.view(np.uint64), counter=counter)

    def uniform(self, count: int) -> Float64[np.ndarray, " count"]:
        """Return the next numbers, float64 in [0, 1)."""
        return (self._philox.random_raw(count) >> np.uint64(11)) * 2.0**-53


class Transform(Protocol):
    """What makes pixels of one size; copies of it travel to worker processes."""

    def __call__(self, image: bytes | np.ndarray, draws: Draws, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Decode:
    """Pixels as they were stored; for sets of one size.

    Args:
      channels: 3 for colours, 1 for greys.

    Example:
      >>> pixels = np.zeros((2, 2, 3), np.uint8)
      >>> Decode()(pixels, Draws((0, 0), 0, row=0)) is pixels
      True
    """

    channels: int = 3

    def __call__(self, image: bytes | np.ndarray, draws: Draws, /) -> np.ndarray:
        """Decode, and draw nothing."""
        return image if isinstance(image, np.ndarray) else _pixels(_open(image, self.channels))


@dataclass(frozen=True)
class RandomResizedCrop:
    r"""Cut out a random rectangle, scale it to a square, mirror it half of the time.

    Of an image of area A it takes :math:`sA` with s uniform in `scale`, and a ratio of width to
    height r with :math:`\log r` uniform in the logarithms of `ratio`:

    .. math::  w = \mathrm{round} \sqrt{s A r}, \qquad h = \mathrm{round} \sqrt{s A / r},

    at a uniform place. Of ten draws the first that fits is taken; if none does, the largest centred
    rectangle whose ratio is allowed. Scaling is Pillow's bilinear one, which averages when it shrinks.

    Args:
      size: pixels of a side of the result.
      scale: smallest and largest share of the area.
      ratio: smallest and largest ratio of width to height.
      flip: probability of mirroring.

    Example:
      >>> crop = RandomResizedCrop(8)
      >>> crop(np.zeros((20, 30, 3), np.uint8), Draws((0, 0), 0, row=0)).shape
      (8, 8, 3)

    References:
      Szegedy et al., `Going Deeper with Convolutions <https://arxiv.org/abs/1409.4842>`_, 2014
    """

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    def __call__(
        self, image: bytes | np.ndarray, draws: Draws, /
    ) -> UInt8[np.ndarray, "size size 3"]:
        """Decode, crop, scale, mirror."""
        from PIL import Image

        opened = _open(image, 3)
        width, height = opened.size
        box = self.box(width, height, draws.uniform(22))
        cut = opened.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)
        pixels = _pixels(cut)
        mirrored = draws.uniform(1)[0] < self.flip
        return np.ascontiguousarray(pixels[:, ::-1]) if mirrored else pixels

    def box(
        self, width: int, height: int, uniform: Float64[np.ndarray, "22"]
    ) -> tuple[int, int, int, int]:
        """Return what to cut out of an image: left, top, right, bottom.

        Args:
          width: of the image, in pixels.
          height: likewise.
          uniform: numbers in [0, 1): ten shares of the area, ten ratios, the place (left, top).
        """
        low, high = self.scale
        areas = width * height * (low + (high - low) * uniform[:10])
        narrow, wide = np.log(self.ratio)
        ratios = np.exp(narrow + (wide - narrow) * uniform[10:20])
        widths = np.rint(np.sqrt(areas * ratios)).astype(np.int64)
        heights = np.rint(np.sqrt(areas / ratios)).astype(np.int64)
        fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
        if fits.any():
            first = int(np.argmax(fits))
            w, h = int(widths[first]), int(heights[first])
            left = int(uniform[20] * (width - w + 1))
            top = int(uniform[21] * (height - h + 1))
        else:
            ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
            w = min(width, round(height * ratio))
            h = min(height, round(width / ratio))
            left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h


@dataclass(frozen=True)
class CentreCrop:
    """Scale the shorter side, then cut a square out of the middle: how photographs are evaluated.

    Args:
      size: pixels of a side of the result.
      shorter: pixels of the shorter side before the cut.

    Raises:
      ValueError: the square is larger than what it is cut from.

    Example:
      >>> CentreCrop(8, shorter=10)(np.zeros((20, 30, 3), np.uint8), Draws((0, 0), 0, row=0)).shape
      (8, 8, 3)
    """

    size: int = 224
    shorter: int = 256

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.shorter:
            raise ValueError(
                f"CentreCrop cannot cut {self.size} pixels out of a shorter side of {self.shorter}; "
                "choose 1 <= size <= shorter."
            )

    def __call__(
        self, image: bytes | np.ndarray, draws: Draws, /
    ) -> UInt8[np.ndarray, "size size 3"]:
        """Decode, scale, crop; nothing is drawn."""
        from PIL import Image

        opened = _open(image, 3)
        width, height = opened.size
        # the longer side rounds down, as in torchvision, whose pretrained networks one compares with
        if width <= height:
            scaled = (self.shorter, self.shorter * height // width)
        else:
            scaled = (self.shorter * width // height, self.shorter)
        opened = opened.resize(scaled, Image.Resampling.BILINEAR)
        left, top = (round((side - self.size) / 2) for side in scaled)
        return _pixels(opened.crop((left, top, left + self.size, top + self.size)))


def _open(image: bytes | np.ndarray, channels: int) -> Any:
    """Return a Pillow image of one or three channels, whatever the file holds."""
    from PIL import Image

    opened = Image.open(io.BytesIO(image)) if isinstance(image, bytes) else Image.fromarray(image)
    mode = "L" if channels == 1 else "RGB"  # some photographs of ImageNet are CMYK, some are grey
    return opened if opened.mode == mode else opened.convert(mode)


def _pixels(image: Any) -> np.ndarray:
    """Return a Pillow image as uint8 ``[H, W, C]``."""
    pixels = np.array(image, np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels
