"""A list of batches, as scores of data take it."""

from collections.abc import Sequence
from typing import Any


def check_is_list(batches: Any) -> None:
    """Raise a ValueError where an array stands for a list of batches."""
    if hasattr(batches, "shape"):
        raise ValueError(
            f"batches is one array of shape {batches.shape}, whose first axis would be taken for a list of batches. "
            "Pass [batch]."
        )


def check_batches(batches: Any) -> Sequence[Any]:
    """Return the batches; raise a ValueError where there is none, or an array stands for a list of them."""
    check_is_list(batches)
    if not len(batches):
        raise ValueError(
            "There is no batch: the pruning set is empty, and this score needs data or their shape. Pass at least one."
        )
    return batches
