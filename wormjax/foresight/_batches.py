"""What a pruning set looks like when methods see it, and what it is often taken for."""

from typing import Any

import jax
import jax.numpy as jnp

from wormjax.foresight._pruning_set import PruningSet
from wormjax.scores._batches import check_is_list


def check_pruning_batches(batches: Any) -> None:
    """Raise where ``batches`` is no list of batches; shapes are read.

    Args:
      batches: what was given for a list of batches, each a pair ``(inputs, labels)`` or inputs alone: arrays
        ``[n, ...]``, labels integers ``[n]``. None at all is for the method to judge.

    Raises:
      ValueError: it is one array, a `PruningSet`, neither list nor tuple, or one pair without its list; or a batch
        holds no example.

    Example:
      >>> import jax.numpy as jnp
      >>> check_pruning_batches((jnp.ones((2, 3)), jnp.array([0, 1])))
      Traceback (most recent call last):
        ...
      ValueError: batches is one pair (inputs, labels). Pass a list of pairs: [(inputs, labels)].
    """
    if isinstance(batches, PruningSet):
        raise ValueError(
            "batches is a PruningSet, which names rows. Pass what it names: [(inputs[s.rows], labels[s.rows])]."
        )
    check_is_list(batches)
    if not isinstance(batches, list | tuple):
        raise ValueError(
            f"batches is a {type(batches).__name__}. Pass a list of batches, [(inputs, labels), ...]; it is read in "
            "every round."
        )
    if len(batches) == 2 and _is_pair(*batches):
        raise ValueError(
            "batches is one pair (inputs, labels). Pass a list of pairs: [(inputs, labels)]."
        )
    for index, batch in enumerate(batches):
        if any(0 in getattr(x, "shape", ())[:1] for x in jax.tree.leaves(batch)):
            raise ValueError(f"Batch {index} of the pruning set holds no example. Leave it out.")


def _is_pair(inputs: Any, labels: Any) -> bool:
    """Whether two arrays are examples and their labels, rather than two batches of inputs."""
    if not all(hasattr(x, "dtype") and jnp.ndim(x) for x in (inputs, labels)):
        return False
    alike = inputs.shape[0] == labels.shape[0] and jnp.ndim(labels) < jnp.ndim(inputs)
    return alike and jnp.issubdtype(labels.dtype, jnp.integer)
