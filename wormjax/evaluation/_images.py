"""Batches of images in NumPy: sampling between pixels, blurring, and smooth noise."""

import numpy as np
from jaxtyping import Float

Images = Float[np.ndarray, "_ _ _ _"]
Field = Float[np.ndarray, "_ _ _"]


def reflected(index: np.ndarray, size: int) -> np.ndarray:
    """Fold positions beyond the border back into 0, ..., size - 1."""
    period = max(2 * size - 2, 1)
    index = np.mod(index, period)
    return np.minimum(index, period - index) if size > 1 else np.zeros_like(index)


def sampled(x: Images, rows: Field, columns: Field) -> Images:
    """Read images at positions between pixels, linearly; beyond the border they are mirrored."""
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    below, right = rows - top, columns - left
    batch = np.arange(len(x))[:, None, None]

    def at(dr: int, dc: int) -> np.ndarray:
        return x[batch, reflected(top + dr, x.shape[1]), reflected(left + dc, x.shape[2])]

    parts = (
        (0, 0, (1 - below) * (1 - right)),
        (0, 1, (1 - below) * right),
        (1, 0, below * (1 - right)),
        (1, 1, below * right),
    )
    return sum(at(dr, dc) * weight[..., None] for dr, dc, weight in parts)


def positions(x: Images) -> tuple[Field, Field]:
    """Return the row and the column of every pixel, for every image."""
    rows, columns = np.meshgrid(np.arange(x.shape[1]), np.arange(x.shape[2]), indexing="ij")
    shape = x.shape[:3]
    return np.broadcast_to(rows, shape).astype(float), np.broadcast_to(columns, shape).astype(float)


def smoothed(x: Images, sigma: float) -> Images:
    """Blur by a Gaussian of so many pixels."""
    if sigma <= 0:
        return x
    radius = max(int(np.ceil(3 * sigma)), 1)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    for axis in (1, 2):
        places = np.arange(x.shape[axis])
        x = sum(
            weight * np.take(x, reflected(places + offset, x.shape[axis]), axis=axis)
            for offset, weight in zip(range(-radius, radius + 1), taps, strict=True)
        )
    return x


def convolved(x: Images, kernel: Float[np.ndarray, "_ _"]) -> Images:
    """Convolve every channel with one kernel of odd size."""
    radius = len(kernel) // 2
    rows, columns = np.arange(x.shape[1]), np.arange(x.shape[2])
    total = np.zeros_like(x)
    for i, j in zip(*np.nonzero(kernel), strict=True):
        moved = np.take(x, reflected(rows + i - radius, x.shape[1]), axis=1)
        total += kernel[i, j] * np.take(moved, reflected(columns + j - radius, x.shape[2]), axis=2)
    return total


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int, int], roughness: float = 0.5
) -> Field:
    """Return fractal noise in [0, 1]: octaves of random grids, each as fine again and ``roughness`` times as strong."""
    n, h, w = shape
    total, cells, strength = np.zeros(shape), 2, 1.0
    while cells <= 2 * max(h, w):
        grid = rng.uniform(size=(n, cells + 1, cells + 1, 1))
        rows = np.broadcast_to(np.linspace(0, cells, h)[None, :, None], shape)
        columns = np.broadcast_to(np.linspace(0, cells, w)[None, None], shape)
        total += strength * sampled(grid, rows, columns)[..., 0]
        cells, strength = 2 * cells, strength * roughness
    low = total.min(axis=(1, 2), keepdims=True)
    span = total.max(axis=(1, 2), keepdims=True) - low
    return (total - low) / np.where(span > 0, span, 1)
