"""Pixels to zero mean and unit variance, and the constants for it."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped


def normalise(
    images: Shaped[Array, "*n h w c"],
    mean: Sequence[float],
    std: Sequence[float],
    *,
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "*n h w c"]:
    r"""Scale pixels to [0, 1], then shift and scale each channel.

    .. math::  y_c = (x_c / 255 - \mu_c) / \sigma_c

    without the division by 255 for float images, which are in [0, 1] already. Meant for inside
    jit: batches travel and rest as uint8, and the arithmetic fuses into the first layer's input.

    Args:
      images: channels last; uint8 in 0..255, or any float type in [0, 1].
      mean: per channel, of images in [0, 1].
      std: per channel, likewise; positive.
      dtype: of the result. The arithmetic is float32 whatever it is.

    Returns:
      Same shape, `dtype`.

    Raises:
      TypeError: the images are neither uint8 nor float.
      ValueError: not one mean and one positive std for each channel.

    Example:
      >>> x = jnp.array([0, 255], jnp.uint8).reshape(1, 1, 2, 1)
      >>> normalise(x, mean=(0.5,), std=(0.25,)).ravel().tolist()
      [-2.0, 2.0]
    """
    if images.dtype == jnp.uint8:
        unit = 1 / 255
    elif jnp.issubdtype(images.dtype, jnp.floating):
        unit = 1.0
    else:
        raise TypeError(
            f"normalise takes uint8 images (0..255) or float images ([0, 1]), got {images.dtype}; "
            "convert them first, because the range of other types is not known."
        )
    channels = images.shape[-1]
    if not len(mean) == len(std) == channels or min(std) <= 0:
        raise ValueError(
            f"normalise needs one mean and one positive std for each of {channels} channels, got "
            f"mean={tuple(mean)}, std={tuple(std)}; a Dataset carries the right ones."
        )
    # One multiply and one add for each pixel; the constants are formed in float64.
    shape = (1,) * (images.ndim - 1) + (channels,)
    scale = jnp.asarray(unit / np.asarray(std, np.float64), jnp.float32).reshape(shape)
    shift = jnp.asarray(-np.asarray(mean, np.float64) / std, jnp.float32).reshape(shape)
    return (images.astype(jnp.float32) * scale + shift).astype(dtype)


def channel_moments(
    images: Shaped[np.ndarray, "n h w c"],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of images scaled to [0, 1].

    Args:
      images: uint8 in 0..255, or float in [0, 1]; the training split, never the test images.

    Returns:
      Two tuples of one float per channel: mean, standard deviation (over all pixels, float64).

    Example:
      >>> channel_moments(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1))
      ((0.5,), (0.5,))
    """
    unit = 1 / 255 if images.dtype == np.uint8 else 1.0
    total = np.zeros(images.shape[-1])
    squares = np.zeros(images.shape[-1])
    for start in range(0, len(images), 4096):  # float64 of a whole set would not be small
        pixels = images[start : start + 4096].astype(np.float64)
        total += pixels.sum(axis=(0, 1, 2))
        squares += np.square(pixels).sum(axis=(0, 1, 2))
    count = images.size // images.shape[-1]
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
    return tuple((mean * unit).tolist()), tuple((std * unit).tolist())
