"""One door to every data set, by name."""

from pathlib import Path

from experiments.data._dataset import Dataset
from experiments.data._digits import digits
from experiments.data._tfds import tfds_images

NAMES = ("digits", "cifar10", "cifar100", "fashion_mnist")


def load(
    name: str,
    *,
    split_seed: int,
    validation: int | None = None,
    limit: int | None = None,
    data_dir: str | Path | None = None,
) -> Dataset:
    """Load a data set into NumPy arrays: three splits, disjoint by assertion.

    The whole of each set fits on a device: ``jax.device_put(dataset)`` moves it there.

    Args:
      name: one of `NAMES`. For other sets of tensorflow-datasets call `tfds_images`.
      split_seed: names the split; not negative. Runs to be compared share it.
      validation: images held out from training; None for the set's own default.
      limit: at most this many images in each split, classes in proportion, for quick runs.
      data_dir: the folder of prepared sets, TFDS_DATA_DIR when None; the embedded digits read none.

    Returns:
      `Dataset` of NumPy arrays.

    Raises:
      ValueError: an unknown name; the message lists the known ones.
      ImportError: a package is missing; the message says which to install.
      FileNotFoundError: the set is not on this machine; the message says where to put it.

    Example:
      >>> data = load("digits", split_seed=0, limit=100)
      >>> data.train.images.shape, data.classes
      ((100, 8, 8, 1), 10)
    """
    if name not in NAMES:
        raise ValueError(
            f"unknown data set {name!r}; known are {', '.join(NAMES)}. Other image sets that "
            "tensorflow-datasets has prepared are read by experiments.data.tfds_images."
        )
    held_out = {} if validation is None else {"validation": validation}
    if name == "digits":
        return digits(split_seed=split_seed, limit=limit, **held_out)
    return tfds_images(name, split_seed=split_seed, limit=limit, data_dir=data_dir, **held_out)
