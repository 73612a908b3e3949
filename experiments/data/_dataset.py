"""Split and Dataset: labelled images as pytrees, and the proof that no split leaks into another."""

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import jax
import numpy as np
from jaxtyping import Array, Int, Int32, Shaped


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images and where each came from; a pytree, so `jax.device_put` moves it as one.

    Args:
      images: ``[N, H, W, C]``, uint8 in 0..255 or float32 in [0, 1], before normalisation.
      labels: int32 ``[N]``, the class of each image.
      indices: int64 ``[N]``, the row of each image in its source (int32 once on a device).
      source: which collection `indices` count in; two splits can share rows only within one.

    Example:
      >>> import numpy as np
      >>> split = Split(np.zeros((2, 8, 8, 1), np.uint8), np.array([1, 0], np.int32), np.arange(2))
      >>> split.size
      2
    """

    images: Shaped[Array | np.ndarray, "n h w c"]
    labels: Int32[Array | np.ndarray, " n"]
    indices: Int[Array | np.ndarray, " n"]
    source: str = field(default="train", metadata={"static": True})

    @property
    def size(self) -> int:
        """Number of images."""
        return self.labels.shape[0]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Dataset:
    """Three disjoint splits and what a model needs to know about them; a pytree.

    Args:
      name: the data set, as `load` knows it.
      train: what gradients see.
      validation: what tickets, thresholds and checkpoints are selected on.
      test: read once, at the end; nothing is selected on it.
      classes: number of classes.
      mean: per channel, of images in [0, 1]; see `normalise`.
      std: per channel, likewise.
      origin: the library, version and collection that the images were read from.

    Example:
      >>> import numpy as np
      >>> split = Split(np.zeros((2, 8, 8, 1), np.uint8), np.array([1, 0], np.int32), np.arange(2))
      >>> data = Dataset("blank", split, split, split, classes=2, mean=(0.5,), std=(0.25,))
      >>> data.image_shape
      (8, 8, 1)
    """

    name: str = field(metadata={"static": True})
    train: Split
    validation: Split
    test: Split
    classes: int = field(metadata={"static": True})
    mean: tuple[float, ...] = field(metadata={"static": True})
    std: tuple[float, ...] = field(metadata={"static": True})
    origin: str = field(default="", metadata={"static": True})

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height, width and channels of every image."""
        return tuple(self.train.images.shape[1:])


class Rows(Protocol):
    """What a split must say for others to be compared with it."""

    @property
    def indices(self) -> Int[Array | np.ndarray, " n"]: ...

    @property
    def source(self) -> str: ...


class Overlap(NamedTuple):
    """Images that two splits hold byte for byte.

    Args:
      first: name of one split.
      second: name of the other.
      positions: int64 ``[K, 2]``, positions in `first` and in `second`; each position of `second`
        is listed at most once, beside the earliest equal image of `first`.
    """

    first: str
    second: str
    positions: Int[np.ndarray, "k 2"]


def content_overlaps(dataset: Dataset) -> tuple[Overlap, ...]:
    """Find images that occur in two splits, whatever rows they were read from.

    Images are compared by a 128-bit hash of their bytes (0.2 s for CIFAR-10). Nothing is dropped:
    a published test set stays the published test set, and a report says what it shares.

    Args:
      dataset: the splits to compare, all three pairs of them.

    Returns:
      One `Overlap` for each pair of splits that share an image; empty if none do.

    Example:
      >>> from experiments.data import digits
      >>> content_overlaps(digits(split_seed=0))
      ()
    """
    digests = {name: _digests(split.images) for name, split in dataset.splits.items()}
    found = []
    for first, second in itertools.combinations(digests, 2):
        earliest = {digest: i for i, digest in reversed(list(enumerate(digests[first])))}
        shared = [(earliest[d], j) for j, d in enumerate(digests[second]) if d in earliest]
        if shared:
            found.append(Overlap(first, second, np.array(shared, np.int64)))
    return tuple(found)


def check_disjoint(dataset: Dataset, *, content: bool = False) -> None:
    """Raise unless train, validation and test have no example in common.

    Args:
      dataset: the splits to check.
      content: also compare the images themselves, not only the rows they came from.

    Raises:
      ValueError: an example occurs twice; the message names the splits and the first one.

    Example:
      >>> from experiments.data import digits
      >>> check_disjoint(digits(split_seed=0), content=True)
    """
    check_rows(dataset.name, dataset.splits)
    if not content:
        return
    for first, second, positions in content_overlaps(dataset):
        i, j = positions[0]
        raise ValueError(
            f"Splits {first!r} and {second!r} of {dataset.name!r} share {len(positions)} images "
            f"(first: {first}[{i}] equals {second}[{j}]). Remove them from {first!r}, or accept "
            "them and report experiments.data.content_overlaps with the results."
        )


def check_rows(dataset: str, splits: Mapping[str, Rows]) -> None:
    """Raise unless every row of every source is in one split at most, and once.

    Args:
      dataset: the data set, for the message.
      splits: what has `indices` and `source`, by name.

    Raises:
      ValueError: a row occurs twice; the message names the splits and the first one.
    """
    for name, split in splits.items():
        rows, counts = np.unique(np.asarray(split.indices), return_counts=True)
        if (counts > 1).any():
            raise ValueError(
                f"Split {name!r} of {dataset!r} holds {int((counts > 1).sum())} rows of "
                f"source {split.source!r} more than once (first: row {rows[counts > 1][0]}). Build "
                "splits with experiments.data.partition, which deals every row out once."
            )
    for (first, a), (second, b) in itertools.combinations(splits.items(), 2):
        shared = np.intersect1d(a.indices, b.indices) if a.source == b.source else np.empty(0)
        if shared.size:
            raise ValueError(
                f"Splits {first!r} and {second!r} of {dataset!r} share {shared.size} rows of "
                f"source {a.source!r} (first: row {shared[0]}). Build splits with "
                "experiments.data.partition, which deals every row out once."
            )


def _digests(images: Shaped[Array | np.ndarray, "n h w c"]) -> list[bytes]:
    """One 128-bit hash for each image."""
    return [
        hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in np.asarray(images)
    ]
