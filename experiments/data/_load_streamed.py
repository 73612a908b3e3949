"""One door to every data set that is streamed, by name."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data._image_folder import tiny_imagenet_records
from experiments.data._prepared import (
    check_installed,
    check_labelled,
    data_folder,
    open_prepared,
    prepared_folder,
    scan,
)
from experiments.data._records import PreparedRecords, Records
from experiments.data._splits import partition
from experiments.data._stream import check_grain
from experiments.data._streamed import StreamedDataset, StreamedSplit
from experiments.data._tfds import MOMENTS
from experiments.data._transforms import CentreCrop, Decode, RandomResizedCrop, Transform


class _Set(NamedTuple):
    """How a set is read."""

    train: Transform  # of images that gradients see
    still: Transform  # of images that are evaluated
    moments: tuple[tuple[float, ...], tuple[float, ...]]
    validation: int
    tfds: str | None = None  # None: not in its catalogue
    test: str = "test"  # the split that stands for the test set


_SMALL = {
    name: _Set(Decode(channels), Decode(channels), MOMENTS[name], 5000, tfds=name)
    for name, channels in (("cifar10", 3), ("cifar100", 3), ("fashion_mnist", 1))
}
_SETS = _SMALL | {
    "tiny_imagenet": _Set(
        RandomResizedCrop(64, scale=(0.1, 1.0), ratio=(0.8, 1.25)),
        Decode(),
        ((0.480, 0.448, 0.397), (0.276, 0.269, 0.282)),
        10_000,
    ),
    "imagenet": _Set(
        RandomResizedCrop(224),
        CentreCrop(224, shorter=256),
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        10_000,
        tfds="imagenet2012",
        test="validation",
    ),
}
STREAMED = tuple(_SETS)


def load_streamed(
    name: str,
    *,
    split_seed: int,
    validation: int | None = None,
    limit: int | None = None,
    data_dir: str | Path | None = None,
) -> StreamedDataset:
    """Open a data set whose images stay in their files: three splits, disjoint by assertion.

    - ``cifar10``, ``cifar100``, ``fashion_mnist``: the splits and pixels of `load`, for comparison with it
      and for machines with little memory; augment on the device.
    - ``imagenet``: ``imagenet2012`` of tensorflow-datasets. Training images by `RandomResizedCrop` to 224
      pixels, others scaled to 256 and cut to 224. The published validation images are the test set, as in
      the literature; ours are carved from training, at random and not by class, because the labels lie
      beside 140 GB of images.
    - ``tiny_imagenet``: the published folder ``tiny-imagenet-200``, 64 pixels. The published validation
      images are the test set, because the test labels are not published.

    Args:
      name: one of `STREAMED`.
      split_seed: names the split; not negative. Runs to be compared share it.
      validation: images held out from training; None for 5,000 of the small sets and 10,000 of the others.
      limit: at most this many images in each split.
      data_dir: the folder of prepared sets, TFDS_DATA_DIR when None.

    Returns:
      `StreamedDataset`; give its splits to `Stream`.

    Raises:
      ValueError: an unknown name, or sizes that do not fit.
      ImportError: a package is missing; the message says which to install.
      FileNotFoundError: the set is not on this machine; the message says where to put it.

    Example:
      >>> data = load_streamed("imagenet", split_seed=0)  # doctest: +SKIP
      >>> data.image_shape, data.train.size  # doctest: +SKIP
      ((224, 224, 3), 1271167)

    References:
      Russakovsky et al., `ImageNet Large Scale Visual Recognition Challenge
      <https://arxiv.org/abs/1409.0575>`_, 2014

      Le and Yang, `Tiny ImageNet Visual Recognition Challenge
      <http://cs231n.stanford.edu/reports/2015/pdfs/yle_project.pdf>`_, 2015
    """
    if name not in _SETS:
        raise ValueError(f"unknown streamed data set {name!r}; known are {', '.join(STREAMED)}.")
    check_grain()
    check_installed(name)
    chosen = _SETS[name]
    found = _tiny(data_dir) if chosen.tfds is None else _prepared(name, chosen, data_dir)
    held_out = chosen.validation if validation is None else validation
    sizes = (len(found.labels) - held_out, held_out)
    train, select = partition(found.labels, sizes, split_seed, limit=limit)
    (test,) = partition(found.test_labels, (len(found.test_labels),), split_seed, limit=limit)
    return StreamedDataset(
        name,
        StreamedSplit(found.train, train, chosen.train, "train"),
        StreamedSplit(found.train, select, chosen.still, "train"),
        StreamedSplit(found.test, test, chosen.still, chosen.test),
        found.classes,
        *chosen.moments,
        found.image_shape,
        found.origin,
    )


class _Found(NamedTuple):
    """Both collections of a set; `labels` are all alike where splits are not dealt by class."""

    train: Records
    labels: np.ndarray
    test: Records
    test_labels: np.ndarray
    classes: int
    image_shape: tuple[int, ...]
    origin: str


def _tiny(data_dir: str | Path | None) -> _Found:
    root = data_folder("tiny_imagenet", data_dir)
    train, test, classes = tiny_imagenet_records(root)
    origin = "tiny-imagenet-200"
    return _Found(train, train.labels, test, test.labels, classes, (64, 64, 3), origin)


def _prepared(name: str, chosen: _Set, data_dir: str | Path | None) -> _Found:
    assert chosen.tfds is not None
    folder = prepared_folder(chosen.tfds, data_dir)
    sides = []
    for split in ("train", chosen.test):
        prepared = open_prepared(chosen.tfds, split, folder, one_size=False)
        by_class = None not in prepared.image.shape
        if by_class:
            labels = np.array([label for _, label in scan(prepared)], np.int64)
            check_labelled(labels, name, split)
        else:
            labels = np.zeros(len(prepared.examples), np.int64)
        sides.append((PreparedRecords(chosen.tfds, split, folder), labels))
    shape = tuple(prepared.image.shape) if by_class else (224, 224, 3)
    (train, labels), (test, test_labels) = sides
    return _Found(train, labels, test, test_labels, prepared.classes, shape, prepared.origin)
