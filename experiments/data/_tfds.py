"""Image sets prepared by tensorflow-datasets, read without TensorFlow."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.data._dataset import Dataset, Split, check_disjoint
from experiments.data._normalise import channel_moments
from experiments.data._prepared import (
    check_installed,
    check_labelled,
    open_prepared,
    prepared_folder,
    scan,
)
from experiments.data._splits import partition

# Mean and standard deviation of images in [0, 1]. The CIFAR deviations are the ones in general use
# (means of per-image deviations; over all pixels 0.247, 0.243, 0.262), kept for comparability.
_CIFAR = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
MOMENTS = {"cifar10": _CIFAR, "cifar100": _CIFAR, "fashion_mnist": ((0.2860,), (0.3530,))}


def tfds_images(
    name: str,
    *,
    split_seed: int,
    validation: int = 5000,
    limit: int | None = None,
    data_dir: str | Path | None = None,
) -> Dataset:
    """An image classification set that tensorflow-datasets has prepared on this machine.

    Validation is carved from ``train`` by `split_seed` (class-stratified); ``test`` is the
    published one, whole. Everything is decoded into memory: CIFAR-10 takes about 7 s and 184 MB, so
    nothing is cached on disk. Nothing is downloaded either.

    Args:
      name: as tensorflow-datasets knows it, such as ``"cifar10"``; it must have the features
        ``image`` (uint8, one size) and ``label`` and the splits ``train`` and ``test``.
      split_seed: names the validation split; not negative. Runs to be compared share it.
      validation: images carved from ``train``.
      limit: at most this many images in each split; only these are decoded.
      data_dir: the folder that holds prepared sets; the variable TFDS_DATA_DIR when None.

    Returns:
      Images uint8 ``[N, H, W, C]``; mean and std in general use for CIFAR and Fashion-MNIST,
      those of the training split for others.

    Raises:
      ImportError: tensorflow-datasets, array_record or Pillow is not installed.
      FileNotFoundError: no folder was named, or the set is not in it.
      ValueError: it is not an image classification set of one size, or the sizes do not fit.

    Example:
      >>> data = tfds_images("cifar10", split_seed=0, limit=100)  # doctest: +SKIP
      >>> data.train.images.shape  # doctest: +SKIP
      (100, 32, 32, 3)

    References:
      Krizhevsky, `Learning Multiple Layers of Features from Tiny Images
      <https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf>`_, 2009

      Xiao et al., `Fashion-MNIST <https://arxiv.org/abs/1708.07747>`_, 2017
    """
    check_installed(name)
    folder = prepared_folder(name, data_dir)
    source = _read(name, "train", folder)
    sizes = (len(source.labels) - validation, validation)
    dealt = partition(source.labels, sizes, split_seed, limit=limit)
    train, held_out = (_decode(source, rows, "train") for rows in dealt)
    source = _read(name, "test", folder)
    (rows,) = partition(source.labels, (len(source.labels),), split_seed, limit=limit)
    test = _decode(source, rows, "test")
    mean, std = MOMENTS.get(name.split(":")[0]) or channel_moments(np.asarray(train.images))
    dataset = Dataset(name, train, held_out, test, source.classes, mean, std, source.origin)
    check_disjoint(dataset)
    return dataset


class _Source(NamedTuple):
    """One split as it lies in its files: labels read, images still encoded."""

    encoded: list[bytes]
    labels: np.ndarray
    image: Any  # the feature that decodes
    classes: int
    origin: str


def _read(name: str, split: str, folder: Path) -> _Source:
    prepared = open_prepared(name, split, folder)
    encoded, numbers = zip(*scan(prepared), strict=True)
    labels = np.array(numbers, np.int64)
    check_labelled(labels, name, split)
    return _Source(list(encoded), labels, prepared.image, prepared.classes, prepared.origin)


def _decode(source: _Source, rows: np.ndarray, name: str) -> Split:
    images = np.empty((len(rows), *source.image.shape), np.uint8)
    with _without_opencv_advice():
        for i, row in enumerate(rows):
            images[i] = source.image.decode_example_np(source.encoded[row])
    return Split(images, source.labels[rows].astype(np.int32), rows, source=name)


@contextlib.contextmanager
def _without_opencv_advice() -> Iterator[None]:
    """Keep tensorflow-datasets from advising another decoder in the middle of a progress bar."""
    logger = logging.getLogger("absl")

    def keep(record: logging.LogRecord) -> bool:
        return "OpenCV is not installed" not in record.getMessage()

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
