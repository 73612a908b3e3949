"""Sets that tensorflow-datasets has prepared on this machine: found, opened and checked."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


def check_installed(name: str) -> None:
    """Raise where a package that reads prepared sets is missing."""
    for module in ("tensorflow_datasets", "array_record", "PIL"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ImportError(
                f"Reading {name!r} needs tensorflow-datasets, array_record and Pillow, but {module}"
                " cannot be imported: pip install 'wormjax[experiments]'. TensorFlow is not "
                "needed, and the data set 'digits' needs none of them."
            ) from error


def data_folder(name: str, data_dir: str | Path | None) -> Path:
    """Return the folder that data sets are kept in.

    Args:
      name: the set that is looked for.
      data_dir: that folder, or None for the variable TFDS_DATA_DIR.

    Raises:
      FileNotFoundError: no folder was named.
    """
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR")
    if not chosen:
        raise FileNotFoundError(
            f"Where is {name!r}? Set the variable TFDS_DATA_DIR to the folder that holds sets "
            "prepared by tensorflow-datasets, or pass data_dir. The set 'digits' needs no files."
        )
    return Path(chosen).expanduser()


def prepared_folder(name: str, data_dir: str | Path | None) -> Path:
    """Return the folder of prepared sets, once it is certain that it holds this one.

    Args:
      name: as tensorflow-datasets knows it.
      data_dir: the folder, or None for the variable TFDS_DATA_DIR.

    Raises:
      FileNotFoundError: no folder was named, or the set is not in it.
    """
    root = data_folder(name, data_dir)
    if any((root / name.split(":")[0]).glob("*/dataset_info.json")):
        return root
    infos = [*root.glob("*/*/dataset_info.json"), *root.glob("*/*/*/dataset_info.json")]
    found = sorted({str(info.parent.parent.relative_to(root)) for info in infos})
    raise FileNotFoundError(
        f"No prepared data set {name!r} in {root} (found: {', '.join(found) or 'none'}). Copy a "
        f"prepared one to {root / name}, or prepare it once on a machine with TensorFlow: "
        f"tfds build {name} --file_format=array_record --data_dir={root}"
    )


class Prepared(NamedTuple):
    """One split as it lies in its files.

    Args:
      examples: random access to ``{"image": encoded bytes, "label": int, ...}``.
      image: the feature that decodes.
      classes: number of classes.
      origin: the library, the set and its version.
    """

    examples: Any
    image: Any
    classes: int
    origin: str


def open_prepared(name: str, split: str, folder: Path, *, one_size: bool = True) -> Prepared:
    """Open a split without decoding an image.

    Args:
      name: as tensorflow-datasets knows it.
      split: as the set knows it.
      folder: from `prepared_folder`.
      one_size: whether all images must have one size.

    Raises:
      ValueError: the files need TensorFlow, or hold no images with one class label each.
    """
    import tensorflow_datasets as tfds

    try:
        source = tfds.data_source(
            name,
            split=split,
            data_dir=str(folder),
            download=False,
            decoders={"image": tfds.decode.SkipDecoding()},
        )
    except NotImplementedError as error:
        raise ValueError(
            f"{name!r} in {folder} is in a file format that only TensorFlow reads. Prepare it "
            f"again: tfds build {name} --file_format=array_record --data_dir={folder}"
        ) from error
    features = dict(source.dataset_info.features.items())
    image, label = features.get("image"), features.get("label")
    if (
        not isinstance(image, tfds.features.Image)
        or not isinstance(label, tfds.features.ClassLabel)
        or (one_size and None in image.shape)
        or image.np_dtype != np.uint8
    ):
        raise ValueError(
            f"{name!r} is not a set of uint8 images{' of one size' if one_size else ''} with one "
            "class label each: its "
            f"features are {', '.join(f'{key} {f.shape}' for key, f in features.items())}."
        )
    origin = f"tensorflow-datasets {source.dataset_info.full_name}"
    return Prepared(source, image, label.num_classes, origin)


def scan(prepared: Prepared) -> Iterator[tuple[bytes, int]]:
    """Yield every example's encoded image and label, in the order of the files."""
    size = len(prepared.examples)
    for start in range(0, size, 1024):
        rows = range(start, min(start + 1024, size))
        for example in prepared.examples.__getitems__(rows):
            yield example["image"], example["label"]


def check_labelled(labels: np.ndarray, name: str, split: str) -> None:
    """Raise where a set keeps its labels to itself."""
    if labels.min() < 0:
        raise ValueError(
            f"{name!r} publishes no labels for its split {split!r}, so nothing can be measured "
            "on it; choose another set."
        )
