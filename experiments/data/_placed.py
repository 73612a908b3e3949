"""A data set on the device, ready to train on."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from experiments.data._dataset import check_disjoint
from experiments.data._load import load
from experiments.data._normalise import normalise

Examples = tuple[Array, Array]


class Placed(NamedTuple):
    """Images and labels on the device, and what a model must know of them.

    Attributes:
      train: of the training split.
      held_out: of every split that is evaluated, by name.
      sizes: number of images of each split.
      origin: where they come from.
      classes: number of classes.
      image_shape: height, width, channels.
      normalised: ``normalised(dtype)``: the function that stands between stored images and a model.
    """

    train: Examples
    held_out: dict[str, Examples]
    sizes: dict[str, int]
    origin: str
    classes: int
    image_shape: tuple[int, ...]
    normalised: Callable[[str], Callable[[Array], Array]]

    def steps(self, batch_size: int) -> int:
        """Return the optimizer steps of an epoch; the ragged rest is dropped.

        Raises:
          ValueError: a batch is larger than the training split.
        """
        return whole_steps(self.sizes["train"], batch_size)


def whole_steps(images: int, batch_size: int) -> int:
    """Return the optimizer steps of an epoch; the ragged rest is dropped.

    Args:
      images: of the training split.
      batch_size: examples a step.

    Raises:
      ValueError: a batch is larger than the training split.
    """
    steps = images // batch_size
    if steps < 1:
        raise ValueError(
            f"batch_size {batch_size} is larger than the training split of {images} images. "
            "Lower it, or raise limit."
        )
    return steps


def place(name: str, *, split_seed: int, limit: int | None = None) -> Placed:
    """Load a data set, assert that its splits are disjoint, and put it on the device.

    Args:
      name: as for `load`.
      split_seed: likewise.
      limit: likewise.

    Raises:
      ValueError, FileNotFoundError, ImportError: as `load`.
    """
    data = load(name, split_seed=split_seed, limit=limit)
    check_disjoint(data)
    train = jax.device_put((data.train.images, data.train.labels))
    held_out = {
        split: jax.device_put((images.images, images.labels))
        for split, images in (("validation", data.validation), ("test", data.test))
    }

    def normalised(dtype: str) -> Callable[[Array], Array]:
        return functools.partial(normalise, mean=data.mean, std=data.std, dtype=jnp.dtype(dtype))

    sizes = {split: examples.size for split, examples in data.splits.items()}
    return Placed(train, held_out, sizes, data.origin, data.classes, data.image_shape, normalised)
