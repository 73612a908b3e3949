"""Which rows make up each batch: shuffled for training, all of them once for evaluation."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32, Key


def epoch_order(
    key: Key[Array, ""], epoch: int | Int32[Array, ""], *, size: int, batch: int
) -> Int32[Array, "steps batch"]:
    """The rows of every training batch of one epoch, computed on the device.

    A pure function of (key, epoch): arms that share a key share their data order, and a resumed run
    continues in the order it was in. The ``size % batch`` rows drawn last are left out, others each
    epoch, so that every step has one shape.

    Args:
      key: typed PRNG key of the run's data order, the same for all epochs.
      epoch: counted from 0; may be traced.
      size: rows in the training split.
      batch: rows in a batch, at most `size`.

    Returns:
      int32 ``[size // batch, batch]``; no row occurs twice.

    Raises:
      ValueError: the batch is below 1 or larger than the split.

    Example:
      >>> epoch_order(jax.random.key(0), 3, size=10, batch=4).shape
      (2, 4)
    """
    if not 1 <= batch <= size:
        raise ValueError(
            f"batch={batch} does not fit a training split of {size} images; choose a batch from "
            f"1 to {size}, or load more images."
        )
    steps = size // batch
    rows = jnp.arange(size, dtype=jnp.int32)
    rows = jax.random.permutation(jax.random.fold_in(key, epoch), rows)
    return rows[: steps * batch].reshape(steps, batch)


class EvaluationBatches(NamedTuple):
    """Rows to evaluate, in batches of one shape.

    Args:
      rows: int32 ``[steps, batch]``; where `valid` is False, 0 stands in.
      valid: bool ``[steps, batch]``; True exactly once for each row of the split.
    """

    rows: Int32[np.ndarray, "steps batch"]
    valid: Bool[np.ndarray, "steps batch"]


def evaluation_batches(size: int, batch: int) -> EvaluationBatches:
    """Batches in which every row counts exactly once, the last one padded.

    Accuracy is then ``sum(correct & valid) / sum(valid)`` = correct / total. (The mean of batch
    accuracies, as in Early-Bird's code, weighs the images of a short last batch too much.)

    Args:
      size: rows in the split.
      batch: rows in a batch; may exceed `size`.

    Returns:
      `EvaluationBatches` of ``ceil(size / batch)`` steps.

    Raises:
      ValueError: size or batch is below 1.

    Example:
      >>> evaluation_batches(5, 3).rows.tolist()
      [[0, 1, 2], [3, 4, 0]]
      >>> evaluation_batches(5, 3).valid.tolist()
      [[True, True, True], [True, True, False]]
    """
    if size < 1 or batch < 1:
        raise ValueError(
            f"cannot evaluate {size} images in batches of {batch}; both must be at least 1."
        )
    steps = -(-size // batch)
    rows = np.arange(steps * batch, dtype=np.int32).reshape(steps, batch)
    valid = rows < size
    return EvaluationBatches(np.where(valid, rows, np.int32(0)), valid)
