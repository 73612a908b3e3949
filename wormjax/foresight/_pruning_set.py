"""The examples that methods see: few, fixed, as many of every class, the same for all methods."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from wormjax._selection import check_choice

Subset = Literal["random_balanced", "first_balanced", "random"]


class PruningSet(NamedTuple):
    """Rows of a training set.

    Attributes:
      rows: their indices, sorted by class in turn: one of every class, then the next of every class.
      per_class: how many of each class.
      classes: number of classes.
      seed: of the draw.
      subset: how they were drawn.
      labels_digest: of all labels that they were drawn from, so that they are not read from another order.
    """

    rows: Int[np.ndarray, " n"]
    per_class: int
    classes: int
    seed: int
    subset: Subset
    labels_digest: str


def pruning_set(
    labels: Any,
    *,
    classes: int,
    seed: int,
    per_class: int = 10,
    subset: Subset = "random_balanced",
) -> PruningSet:
    """Choose a fixed, class-balanced pruning set.

    The authors of PX describe it so: ten examples of each class at random, once, for all methods that see data. Feed
    them without augmentation.

    Args:
      labels: integer labels ``[N]`` of the training set.
      classes: number of classes; labels are 0 to ``classes - 1``.
      seed: of the draw.
      per_class: examples of each class.
      subset: ``"random_balanced"``; ``"first_balanced"`` takes the first of each class, as PX's code does; ``"random"``
        draws ``classes * per_class`` without regard to class, as SynFlow's code does.

    Returns:
      `PruningSet`; any prefix of its rows is as balanced as its length allows.

    Raises:
      ValueError: a class has fewer than ``per_class`` examples (it is named); an empty set; a label out of range.

    Example:
      >>> found = pruning_set([0, 1, 1, 0, 1, 0], classes=2, seed=0, per_class=2)
      >>> [[0, 1, 1, 0, 1, 0][row] for row in found.rows]
      [0, 1, 0, 1]
    """
    check_choice("subset", subset, ("random_balanced", "first_balanced", "random"))
    found = np.asarray(labels)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise ValueError(
            f"labels are {found.dtype} of shape {found.shape}. Give one integer an example."
        )
    if per_class < 1 or classes < 1:
        raise ValueError(
            f"per_class={per_class} of classes={classes} make an empty pruning set. Take at least one example."
        )
    if found.size and not (found.min() >= 0 and found.max() < classes):
        raise ValueError(
            f"labels run from {found.min()} to {found.max()}, and classes={classes}. Labels are 0 to classes - 1."
        )
    rng = np.random.default_rng(seed)
    if subset == "random":
        if found.size < classes * per_class:
            raise ValueError(
                f"The training set has {found.size} examples, and {classes * per_class} are wanted. Lower per_class."
            )
        rows = rng.permutation(found.size)[: classes * per_class]
    else:
        each = []
        for label in range(classes):
            own = np.flatnonzero(found == label)
            if own.size < per_class:
                raise ValueError(
                    f"Class {label} has {own.size} examples, and per_class is {per_class}. Lower per_class, or use a "
                    "data set in which every class has as many."
                )
            each.append((rng.permutation(own) if subset == "random_balanced" else own)[:per_class])
        rows = np.stack(each, axis=1).reshape(-1)
    return PruningSet(rows.astype(np.int64), per_class, classes, seed, subset, _digest(found))


def save_pruning_set(path: str | Path, chosen: PruningSet) -> None:
    """Write a pruning set as JSON, so that another run, or another program, prunes on the same examples.

    Args:
      path: the file; its folder must exist.
      chosen: from `pruning_set`.
    """
    record = chosen._asdict() | {"rows": chosen.rows.tolist()}
    Path(path).write_text(json.dumps(record, sort_keys=True) + "\n")


def load_pruning_set(path: str | Path, labels: Any) -> PruningSet:
    """Read a pruning set, and check that it was drawn from these labels in this order.

    Args:
      path: what `save_pruning_set` wrote.
      labels: labels of the training set.

    Raises:
      ValueError: the file is no pruning set, or that of other labels.
    """
    try:
        record = json.loads(Path(path).read_text())
        chosen = PruningSet(**(record | {"rows": np.asarray(record["rows"], np.int64)}))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{Path(path).name} is no pruning set: {error}.") from None
    if chosen.labels_digest != _digest(np.asarray(labels)):
        raise ValueError(
            f"{Path(path).name} was drawn from another training set, or from this one in another order. Draw a new one "
            "with wj.foresight.pruning_set."
        )
    return chosen


def _digest(labels: np.ndarray) -> str:
    return hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()[:16]
