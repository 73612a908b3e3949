"""Tiny-ImageNet as it is published: a folder of JPEG files, one subfolder a class."""

from pathlib import Path

import numpy as np
from jaxtyping import Int

from experiments.data._records import Record

FOLDER = "tiny-imagenet-200"


class FileRecords:
    """Image files with a label each.

    Args:
      files: one path an example.
      labels: int64 ``[N]``, the class of each.
    """

    def __init__(self, files: list[Path], labels: Int[np.ndarray, " n"]):
        self.labels = labels
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int, /) -> Record:
        return Record(self._files[row].read_bytes(), int(self.labels[row]))


def tiny_imagenet_records(root: Path) -> tuple[FileRecords, FileRecords, int]:
    """Find the published training and validation images; the test images have no published labels.

    Classes are numbered in the order of ``wnids.txt``, files come in the order of their names.

    Args:
      root: the folder in which `FOLDER` lies.

    Returns:
      Training images, validation images, number of classes.

    Raises:
      FileNotFoundError: the folder, or a part of it, is not there.
      ValueError: an annotation names a class that ``wnids.txt`` does not.
    """
    folder = root / FOLDER
    wnids, annotations = folder / "wnids.txt", folder / "val" / "val_annotations.txt"
    for path in (wnids, annotations, folder / "train"):
        if not path.exists():
            raise FileNotFoundError(
                f"Tiny-ImageNet is not complete in {folder}: {path.relative_to(root)} is missing. "
                f"Unpack the published tiny-imagenet-200.zip in {root} (it is in no catalogue of "
                "tensorflow-datasets)."
            )
    classes = {wnid: i for i, wnid in enumerate(wnids.read_text().split())}
    train = [
        (path, label)
        for wnid, label in classes.items()
        for path in sorted((folder / "train" / wnid / "images").glob("*.JPEG"))
    ]
    held_back = []
    for line in annotations.read_text().splitlines():
        name, wnid = line.split("\t")[:2]
        if wnid not in classes:
            raise ValueError(
                f"{annotations} gives {name} the class {wnid!r}, which {wnids} does not list. "
                "Unpack tiny-imagenet-200.zip afresh."
            )
        held_back.append((folder / "val" / "images" / name, classes[wnid]))
    if not train or not held_back:
        raise FileNotFoundError(
            f"{folder} holds {len(train)} training and {len(held_back)} validation images. "
            "Unpack tiny-imagenet-200.zip afresh."
        )
    return _records(train), _records(sorted(held_back)), len(classes)


def _records(found: list[tuple[Path, int]]) -> FileRecords:
    files, labels = zip(*found, strict=True)
    return FileRecords(list(files), np.array(labels, np.int64))
