"""StreamedDataset: three disjoint splits that stay in their files until they are needed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from experiments.data._dataset import check_rows
from experiments.data._records import Records
from experiments.data._transforms import Transform


@dataclass(frozen=True, eq=False)
class StreamedSplit:
    """Rows of a collection and what becomes of them on the way to the device.

    Args:
      records: the whole collection.
      indices: int64 ``[N]``, the rows of this split.
      transform: from a record's image to pixels.
      source: which collection `indices` count in; two splits can share rows only within one.

    Example:
      >>> from experiments.data import ArrayRecords, Decode
      >>> records = ArrayRecords(np.zeros((5, 8, 8, 1), np.uint8), np.zeros(5, np.int32))
      >>> StreamedSplit(records, np.array([0, 2, 4]), Decode(1)).size
      3
    """

    records: Records
    indices: Int64[np.ndarray, " n"]
    transform: Transform
    source: str = "train"

    @property
    def size(self) -> int:
        """Number of images."""
        return len(self.indices)


@dataclass(frozen=True, eq=False)
class StreamedDataset:
    """What `Dataset` is for sets in memory; disjoint by assertion.

    Args:
      name: the data set, as `load_streamed` knows it.
      train: what gradients see.
      validation: what tickets, thresholds and checkpoints are selected on.
      test: read once, at the end; nothing is selected on it.
      classes: number of classes.
      mean: per channel, of images in [0, 1]; see `normalise`.
      std: per channel, likewise.
      image_shape: height, width and channels after the transforms.
      origin: the library, version and collection that the images are read from.

    Raises:
      ValueError: two splits share a row.
    """

    name: str
    train: StreamedSplit
    validation: StreamedSplit
    test: StreamedSplit
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_shape: tuple[int, ...]
    origin: str = ""

    def __post_init__(self) -> None:
        check_rows(self.name, self.splits)

    @property
    def splits(self) -> dict[str, Any]:
        """The three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}
