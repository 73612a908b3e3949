"""The 15 common corruptions and 4 more, at five severities, made from clean images.

After the benchmark of Hendrycks and Dietterich. Its own code, and the packages that come from it, are tied to old
versions of scikit-image and OpenCV and draw from a global generator, so these are made anew, in NumPy, for images of
any size and a function of the key alone. They are not its images: frost is drawn instead of photographed, and
saturation only grows. Strengths are those for images of 32 pixels; blurs and displacements grow with larger ones.
"""

import zlib
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from wormjax.evaluation._images import (
    Images,
    convolved,
    positions,
    sampled,
    smooth_noise,
    smoothed,
)
from wormjax.evaluation._jpeg import through_jpeg

Rng = np.random.Generator
# a rule draws the same whatever the strength, so that severities differ in strength alone
Rule = Callable[[Images, float, Rng], np.ndarray]


def _gaussian_noise(x: Images, c: float, rng: Rng) -> np.ndarray:
    return x + c * rng.normal(size=x.shape)


def _shot_noise(x: Images, c: float, rng: Rng) -> np.ndarray:
    return rng.poisson(x * c) / c


def _impulse_noise(x: Images, c: float, rng: Rng) -> np.ndarray:
    u, salt = rng.uniform(size=x.shape), rng.uniform(size=x.shape) < 0.5
    return np.where(u < c, salt.astype(x.dtype), x)


def _speckle_noise(x: Images, c: float, rng: Rng) -> np.ndarray:
    return x + c * x * rng.normal(size=x.shape)


def _gaussian_blur(x: Images, c: float, rng: Rng) -> np.ndarray:
    return smoothed(x, c * _scale(x))


def _defocus_blur(x: Images, c: float, rng: Rng) -> np.ndarray:
    radius = c * _scale(x)
    reach = int(np.ceil(radius))
    y = np.arange(-reach, reach + 1)
    # a disc whose edge is soft by a pixel
    disc = np.clip(radius + 0.5 - np.hypot(y[:, None], y[None]), 0, 1)
    return convolved(x, disc / disc.sum())


def _glass_blur(x: Images, c: float, rng: Rng) -> np.ndarray:
    rows, columns = positions(x)
    reach = int(np.ceil(_scale(x)))
    for _ in range(2):
        moves = rng.integers(-reach, reach + 1, size=(2, *rows.shape))
        goes = rng.uniform(size=rows.shape) < c
        x = sampled(x, rows + goes * moves[0], columns + goes * moves[1])
    return smoothed(x, 0.4 * c * _scale(x))


def _motion_blur(x: Images, c: float, rng: Rng) -> np.ndarray:
    return _along(x, rng.uniform(-np.pi / 4, np.pi / 4, len(x)), c * _scale(x))


def _along(x: Images, angle: np.ndarray, length: float) -> np.ndarray:
    """Mean of an image moved along a line."""
    rows, columns = positions(x)
    count = max(int(np.ceil(4 * length)), 3)
    total = np.zeros_like(x)
    for t in np.linspace(-length, length, count):
        move = (t * f(angle)[:, None, None] for f in (np.sin, np.cos))
        total += sampled(x, rows + next(move), columns + next(move))
    return total / count


def _zoom_blur(x: Images, c: float, rng: Rng) -> np.ndarray:
    rows, columns = positions(x)
    middle = (x.shape[1] - 1) / 2, (x.shape[2] - 1) / 2
    factors = np.linspace(1, c, 7)
    return sum(  # type: ignore[return-value]
        sampled(x, middle[0] + (rows - middle[0]) / f, middle[1] + (columns - middle[1]) / f)
        for f in factors
    ) / len(factors)


def _snow(x: Images, c: float, rng: Rng) -> np.ndarray:
    flakes = rng.uniform(size=(*x.shape[:3], 1))
    angle = rng.uniform(np.pi / 4, 3 * np.pi / 4, len(x))
    fallen = _along((flakes > 1 - 0.4 * c).astype(float), angle, _scale(x))
    white = (1 - c / 2) * x + c / 2 * np.maximum(x, 0.5 * x.mean(axis=-1, keepdims=True) + 0.5)
    return white + 1.5 * c * fallen


def _frost(x: Images, c: float, rng: Rng) -> np.ndarray:
    noise = smooth_noise(rng, x.shape[:3], roughness=0.7)
    crystals = 1 - np.abs(2 * noise - 1)  # ridges where the noise passes its middle
    return (1 - 0.6 * c) * x + c * crystals[..., None] ** 2


def _fog(x: Images, c: float, rng: Rng) -> np.ndarray:
    largest = x.max(axis=(1, 2, 3), keepdims=True)
    thick = x + c * smooth_noise(rng, x.shape[:3], roughness=0.5)[..., None]
    return thick * largest / (largest + c)


def _brightness(x: Images, c: float, rng: Rng) -> np.ndarray:
    return x + c


def _contrast(x: Images, c: float, rng: Rng) -> np.ndarray:
    mean = x.mean(axis=(1, 2), keepdims=True)
    return mean + c * (x - mean)


def _elastic_transform(x: Images, c: float, rng: Rng) -> np.ndarray:
    rows, columns = positions(x)
    drawn = smoothed(rng.uniform(-1, 1, size=(*x.shape[:3], 2)), 1.5 * _scale(x))
    drawn = drawn / np.abs(drawn).max(axis=(1, 2, 3), keepdims=True) * c * _scale(x)
    return sampled(x, rows + drawn[..., 0], columns + drawn[..., 1])


def _pixelate(x: Images, c: float, rng: Rng) -> np.ndarray:
    for axis in (1, 2):
        size = x.shape[axis]
        cells = max(int(size * c), 1)
        x = np.moveaxis(np.moveaxis(x, axis, -1) @ _boxes(size, cells), -1, axis)
    return x


def _boxes(size: int, cells: int) -> np.ndarray:
    """The matrix that takes means over equal parts of a line, and makes pixels of them by how far they overlap."""
    edges = np.linspace(0, size, cells + 1)
    begin = np.maximum(edges[:-1, None], np.arange(size)[None])
    end = np.minimum(edges[1:, None], np.arange(size)[None] + 1)
    overlap = np.clip(end - begin, 0, None)
    means = overlap / overlap.sum(axis=1, keepdims=True)
    return (overlap.T @ means).T


def _jpeg_compression(x: Images, c: float, rng: Rng) -> np.ndarray:
    return through_jpeg(np.clip(x, 0, 1), c)


def _spatter(x: Images, c: float, rng: Rng) -> np.ndarray:
    noise = smoothed(rng.normal(size=(*x.shape[:3], 1)), 0.7 * _scale(x))
    noise = noise / noise.std(axis=(1, 2, 3), keepdims=True)
    drops = np.clip(4 * (noise - (2.2 - 2 * c)), 0, 1)
    water = np.array([175, 238, 238]) / 255 if x.shape[-1] == 3 else np.full(x.shape[-1], 0.9)
    return (1 - 0.8 * drops) * x + 0.8 * drops * water


def _saturate(x: Images, c: float, rng: Rng) -> np.ndarray:
    if x.shape[-1] != 3:
        raise ValueError(
            f"saturate changes colours, and these images have {x.shape[-1]} channels. Leave it out: "
            "corruption_names(channels) lists those that apply."
        )
    grey = x @ np.array([0.299, 0.587, 0.114])
    return grey[..., None] + c * (x - grey[..., None])


# what a severity from 1 to 5 means
_RULES: dict[str, tuple[Rule, Sequence[float]]] = {
    "gaussian_noise": (_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": (_shot_noise, (500.0, 250.0, 100.0, 75.0, 50.0)),
    "impulse_noise": (_impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus_blur": (_defocus_blur, (0.6, 0.8, 1.0, 1.25, 1.5)),
    "glass_blur": (_glass_blur, (0.2, 0.35, 0.5, 0.7, 0.9)),
    "motion_blur": (_motion_blur, (1.0, 1.5, 2.0, 2.5, 3.0)),
    "zoom_blur": (_zoom_blur, (1.06, 1.11, 1.16, 1.21, 1.26)),
    "snow": (_snow, (0.15, 0.25, 0.35, 0.45, 0.6)),
    "frost": (_frost, (0.2, 0.3, 0.4, 0.5, 0.65)),
    "fog": (_fog, (0.2, 0.5, 0.75, 1.0, 1.5)),
    "brightness": (_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic_transform": (_elastic_transform, (0.6, 0.9, 1.2, 1.5, 1.9)),
    "pixelate": (_pixelate, (0.9, 0.75, 0.65, 0.5, 0.4)),
    "jpeg_compression": (_jpeg_compression, (80.0, 65.0, 50.0, 35.0, 20.0)),
    "speckle_noise": (_speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2)),
    "gaussian_blur": (_gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "spatter": (_spatter, (0.1, 0.2, 0.3, 0.45, 0.6)),
    "saturate": (_saturate, (1.3, 1.6, 2.0, 2.5, 3.2)),
}
COMMON = tuple(_RULES)[:15]
EXTRA = tuple(_RULES)[15:]


def corruption_names(channels: int = 3, extra: bool = True) -> tuple[str, ...]:
    """Return the corruptions for images of so many channels: the 15 common ones, and 4 more.

    Example:
      >>> len(corruption_names()), len(corruption_names(extra=False)), len(corruption_names(channels=1))
      (19, 15, 18)
    """
    names = COMMON + EXTRA if extra else COMMON
    return tuple(name for name in names if channels == 3 or name != "saturate")


def corrupt(
    images: Float[Array | np.ndarray, "_ _ _ _"], name: str, severity: int, key: Key[Array, ""]
) -> Float[np.ndarray, "_ _ _ _"]:
    """Return images under a common corruption.

    Args:
      images: ``[N, H, W, C]`` in [0, 1], before any normalisation; of any size, grey or coloured.
      name: one of `corruption_names`.
      severity: 1, the mildest, to 5.
      key: a typed key; what is drawn is a function of it and of the name, and the same at every severity.

    Returns:
      Images in [0, 1], float32.

    Raises:
      ValueError: another name or severity; images outside [0, 1]; saturation of grey images.

    Example:
      >>> import jax, numpy as np
      >>> grey = np.full((1, 8, 8, 1), 0.5, np.float32)
      >>> print(corrupt(grey, "brightness", 3, jax.random.key(0))[0, 0, 0])
      [0.65]

    References:
      Hendrycks and Dietterich, `Benchmarking Neural Network Robustness to Common Corruptions and Perturbations
      <https://arxiv.org/abs/1903.12261>`_, 2019
    """
    if name not in _RULES:
        raise ValueError(f"There is no corruption {name!r}; there are {', '.join(_RULES)}.")
    if severity not in (1, 2, 3, 4, 5):
        raise ValueError(f"severity={severity} must be 1, 2, 3, 4 or 5.")
    x = np.asarray(images, np.float64)
    if x.size and not (x.min() >= 0 and x.max() <= 1):
        raise ValueError(
            f"corrupt takes images in [0, 1], and these lie in [{x.min():.3g}, {x.max():.3g}]. Corrupt them before "
            "they are normalised."
        )
    rule, strengths = _RULES[name]
    words = np.asarray(jax.random.key_data(key), np.uint32).tolist()
    rng = np.random.default_rng([*words, zlib.crc32(name.encode())])
    return np.clip(rule(x, strengths[severity - 1], rng), 0, 1).astype(np.float32)


def _scale(x: Images) -> float:
    """How many pixels there are to one of an image of 32; small images have the strengths of those."""
    return max(min(x.shape[1:3]) / 32, 1.0)
