"""Lists of positions in joined parts, by NumPy: what they read, what they tie, and which are transpositions."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def classes(
    count: int, left: Int[np.ndarray, " n"], right: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " count"]:
    """Return the connected component of each of ``count`` things when ``left[i]`` and ``right[i]`` are one, for all i.

    Components are numbered by their first member. Labels are halved in distance at every step, so that a cycle of n
    things takes about log n steps, each linear in ``count``.

    Example:
      >>> classes(5, np.array([0, 1]), np.array([3, 4]))
      array([0, 1, 2, 0, 1])
    """
    label = np.arange(count)
    while True:
        low = np.minimum(label[left], label[right])
        hooked = label.copy()
        for side in (left, right):
            np.minimum.at(hooked, label[side], low)
        hooked = hooked[hooked]
        if np.array_equal(hooked, label):
            return np.unique(label, return_inverse=True)[1].reshape(-1)
        label = hooked


def read(
    sizes: Sequence[int], index: Int[np.ndarray, " n"]
) -> tuple[list[int], Int[np.ndarray, " n"]]:
    """Return the parts on which positions lie, by the first that does, and the positions in these parts joined.

    Example:
      >>> read([2, 3, 1], np.array([4, 0, 1]))
      ([1, 0], array([2, 3, 4]))
    """
    owner = np.repeat(np.arange(len(sizes)), sizes)
    found, first = np.unique(owner[index], return_index=True)
    order = found[np.argsort(first)].tolist()
    start = np.cumsum([0, *sizes])
    moved = np.zeros(len(owner), int)
    end = 0
    for k in order:
        moved[start[k] : start[k + 1]] = np.arange(end, end + sizes[k])
        end += sizes[k]
    return order, moved[index]


def ranks(kind: Int[np.ndarray, " n"]) -> tuple[list[int], Int[np.ndarray, " n"]]:
    """Return how many things there are of each kind, and the position of each when they are sorted by kind.

    Example:
      >>> ranks(np.array([7, 5, 7, 5]))
      ([2, 2], array([2, 0, 3, 1]))
    """
    position = np.empty(len(kind), int)
    position[np.argsort(kind, kind="stable")] = np.arange(len(kind))
    return np.unique(kind, return_counts=True)[1].tolist(), position


def tied(
    sizes: Sequence[int], left: Int[np.ndarray, " n"], right: Int[np.ndarray, " n"]
) -> tuple[list[int], Int[np.ndarray, " entries"]]:
    """Tie entries of joined parts, ``left[i]`` with ``right[i]``, and sort the classes that come out.

    Returns:
      The number of classes of each kind, where two are of one kind if they have as many entries of every part; and
      for each entry the position of its class among all, sorted by kind.

    Example:
      >>> tied([4], np.array([0, 1, 2, 3]), np.array([1, 0, 2, 3]))  # one pair, two that are alone
      ([2, 1], array([2, 2, 0, 1]))
    """
    owner = np.repeat(np.arange(len(sizes)), sizes)
    label = classes(len(owner), left, right)
    members = np.zeros((label.max() + 1, len(sizes)), int)
    np.add.at(members, (label, owner), 1)
    kinds, position = ranks(np.unique(members, axis=0, return_inverse=True)[1].reshape(-1))
    return kinds, position[label]


def grid(index: Int[np.ndarray, " n"]) -> tuple[int, int] | None:
    """Return (rows, columns) where a list reads the columns of such a grid one after another; None elsewhere.

    Example:
      >>> grid(np.array([0, 3, 1, 4, 2, 5]))
      (2, 3)
    """
    columns = int(index[1] - index[0]) if len(index) > 1 else 0
    if columns < 1 or len(index) % columns:
        return None
    rows = len(index) // columns
    expected = np.arange(len(index)).reshape(rows, columns).T.ravel()
    return (rows, columns) if np.array_equal(index, expected) else None
