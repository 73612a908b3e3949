"""scikit-learn's handwritten digits: embedded, so that an experiment needs no download."""

import numpy as np

from experiments.data._dataset import Dataset, Split, check_disjoint
from experiments.data._normalise import channel_moments
from experiments.data._splits import partition

ROWS = 1797


def digits(
    *, split_seed: int, validation: int = 217, test: int = 300, limit: int | None = None
) -> Dataset:
    """1,797 handwritten digits of 8x8 pixels in three disjoint, class-stratified splits.

    The collection has no official split, so all three are dealt from one source by `split_seed`.
    The default sizes leave 1,280 images for training: whole batches of 64, 128 or 256.

    Args:
      split_seed: names the split; not negative. Runs to be compared share it.
      validation: images held out for selection.
      test: images held out for the final number.
      limit: at most this many images in each split, for quick runs.

    Returns:
      Images float32 ``[N, 8, 8, 1]`` in [0, 1] (17 grey levels over 16, exact), 10 classes,
      mean and standard deviation of the training split.

    Raises:
      ImportError: scikit-learn is not installed.
      ValueError: validation and test leave nothing to train on, or the limit is below 1.

    Example:
      >>> data = digits(split_seed=0)
      >>> data.train.images.shape, data.validation.size, data.test.size
      ((1280, 8, 8, 1), 217, 300)

    References:
      Alpaydin and Kaynak, `Optical Recognition of Handwritten Digits
      <https://doi.org/10.24432/C50P49>`_, 1998
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "The digits come with scikit-learn, which is not installed: "
            "pip install 'wormjax[experiments]' (or scikit-learn)."
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    sizes = (ROWS - validation - test, validation, test)
    dealt = partition(labels, sizes, split_seed, limit=limit)
    mean, std = channel_moments(images[dealt[0]])
    train, held_out, held_back = (
        Split(images[rows], labels[rows].astype(np.int32), rows, source="all") for rows in dealt
    )
    dataset = Dataset(
        "digits", train, held_out, held_back, 10, mean, std, origin="scikit-learn digits"
    )
    check_disjoint(dataset)
    return dataset
