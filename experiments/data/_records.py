"""Random access to labelled images as they are stored, for sets that do not fit into memory."""

from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Int32, Shaped

from experiments.data._prepared import check_labelled, open_prepared


class Record(NamedTuple):
    """One example before decoding.

    Args:
      image: an encoded file (PNG, JPEG, ...), or pixels ``[H, W, C]``.
      label: the class.
    """

    image: bytes | np.ndarray
    label: int


class Records(Protocol):
    """Random access to records; copies of it travel to worker processes and must be small."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Record: ...


class ArrayRecords:
    """Images that are arrays already: what `Split` holds, read as a stream.

    Args:
      images: ``[N, H, W, C]``.
      labels: int32 ``[N]``.

    Example:
      >>> records = ArrayRecords(np.zeros((2, 8, 8, 1), np.uint8), np.array([3, 4], np.int32))
      >>> records[1].image.shape, records[1].label
      ((8, 8, 1), 4)
    """

    def __init__(self, images: Shaped[np.ndarray, "n h w c"], labels: Int32[np.ndarray, " n"]):
        self._images, self._labels = images, labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, row: int, /) -> Record:
        return Record(self._images[row], int(self._labels[row]))


class PreparedRecords:
    """One split of a set that tensorflow-datasets has prepared, opened where it is first read.

    A copy in another process is three strings: files are opened there, and nothing is shared.

    Args:
      name: as tensorflow-datasets knows it.
      split: as the set knows it.
      folder: the folder of prepared sets.

    Raises:
      ValueError: at the first read; the set has no labelled images or needs TensorFlow.
    """

    def __init__(self, name: str, split: str, folder: Path):
        self._where = (name, split, folder)
        self._examples = None

    def __getstate__(self) -> dict:
        return {"_where": self._where, "_examples": None}

    def __len__(self) -> int:
        return len(self._open())

    def __getitem__(self, row: int, /) -> Record:
        example = self._open()[row]
        label = int(example["label"])
        check_labelled(np.array([label]), *self._where[:2])
        return Record(example["image"], label)

    def _open(self):
        if self._examples is None:
            self._examples = open_prepared(*self._where, one_size=False).examples
        return self._examples
