"""From a score tree to one number for each unit of each group."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, PyTree

from wormjax._selection import check_choice
from wormjax.scores import check
from wormjax.structure._groups import Groups
from wormjax.structure._units import Line, first_count, lines

Aggregate = Literal["sum", "mean", "max", "norm", "joint"]
Normalise = Literal["none", "mean", "max", "norm", "lamp"]


class UnitScores(dict[str, Float[np.ndarray, " units"]]):
    """Group name to one float64 score a unit; `plan` takes it in the place of a score tree."""


def unit_scores(
    groups: Groups,
    scores: PyTree | UnitScores,
    aggregate: Aggregate = "sum",
    normalise: Normalise = "none",
) -> UnitScores:
    r"""Aggregate scores over all entries of each unit.

    An entry counts once, however many of its axes carry the unit. With the scores :math:`|\theta|` of
    `wormjax.scores.magnitude`, ``"sum"`` and ``"norm"`` are the L1 and L2 norms of a unit.

    LAMP divides the square of a unit's score by that of all units of its group that would outlive it,

    .. math:: s_u \leftarrow \frac{s_u^2}{\sum_{v \ge u} s_v^2}

    so that the best of each group scores 1 and a global ranking empties no group. LAMP is made for weights within a
    layer; here it ranks units within a group.

    Args:
      groups: the groups.
      scores: score tree for the parameters; a leaf speaks of a group where it has the group's axis at full size. Or
        numbers that are the units' already, which only ``normalise`` changes.
      aggregate: how the entries of a unit become one number; ``"joint"`` is the absolute value of their sum.
      normalise: divide each group's numbers by their ``"mean"``, ``"max"`` or root mean square (``"norm"``), so that
        groups of different scale can be ranked together; or ``"lamp"``.

    Returns:
      For each group that some ranked leaf speaks of, a float64 array with one number a unit.

    Raises:
      ValueError: NaN or infinity in a ranked leaf; scores for other parameters; a negative number under ``"lamp"``.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax import scores
      >>> from wormjax.structure import find_groups, unit_scores
      >>> params = {"up": jnp.array([[3.0, 1.0]]), "down": jnp.array([[-4.0], [2.0]])}
      >>> groups = find_groups(lambda p, x: jnp.tanh(x @ p["up"]) @ p["down"], params, jnp.ones((1, 1)))
      >>> unit_scores(groups, scores.magnitude(params))
      {'down:0': array([7., 3.])}
      >>> unit_scores(groups, scores.magnitude(params), aggregate="norm")["down:0"]
      array([5.        , 2.23606798])

    References:
      Lee et al., `Layer-adaptive Sparsity for the Magnitude-based Pruning <https://arxiv.org/abs/2010.07931>`_, 2021
    """
    check_choice("aggregate", aggregate, ("sum", "mean", "max", "norm", "joint"))
    check_choice("normalise", normalise, ("none", "mean", "max", "norm", "lamp"))
    if isinstance(scores, UnitScores):
        found = scores
        _check(groups, found)
    else:
        found = _of_tree(groups, scores, aggregate)
    return UnitScores({name: _normalised(name, u, normalise) for name, u in found.items()})


def _of_tree(groups: Groups, scores: PyTree, aggregate: Aggregate) -> UnitScores:
    check(scores, groups.shapes)
    host = {k: np.asarray(x, np.float64) for k, x in enumerate(jax.tree.leaves(scores)) if x.ndim}
    found = UnitScores()
    for group in groups:
        on = {leaf: along for leaf, along in lines(groups, group).items() if leaf in host}
        parts = [p for leaf, along in on.items() for p in _parts(host[leaf], along)]
        if parts:
            found[group.name] = _aggregated(group.size, parts, aggregate)
    return found


class _Part(NamedTuple):
    """Some score entries, and where they belong.

    Attributes:
      units: for each row the unit, or the group's size for none.
      rows: the entries, one row an index of an axis.
      counted: which of them count.
    """

    units: np.ndarray
    rows: np.ndarray
    counted: np.ndarray


def _parts(score: np.ndarray, along: list[Line]) -> Iterator[_Part]:
    """The entries on each line, counted where no line before has them."""
    full = [line for line in along if score.shape[line.axis] == len(line.units)]
    for k, (axis, units) in enumerate(full):
        first = first_count(full, k, score.ndim, np)
        counted = np.broadcast_to(True if first is None else first, score.shape)
        rows, which = (np.moveaxis(x, axis, 0).reshape(len(units), -1) for x in (score, counted))
        yield _Part(units, rows, which)


def _aggregated(size: int, parts: list[_Part], aggregate: Aggregate) -> np.ndarray:
    if aggregate == "max":
        best = np.full(size + 1, -np.inf)
        for units, rows, counted in parts:
            np.maximum.at(best, units, rows.max(axis=1, where=counted, initial=-np.inf))
        return best[:size]
    total, count = np.zeros(size + 1), np.zeros(size + 1)
    for units, rows, counted in parts:
        values = rows**2 if aggregate == "norm" else rows
        total += np.bincount(units, values.sum(axis=1, where=counted), size + 1)
        count += np.bincount(units, counted.sum(axis=1), size + 1)
    total, count = total[:size], count[:size]
    if aggregate == "mean":
        return total / np.maximum(count, 1)
    if aggregate == "norm":
        return np.sqrt(total)
    return np.abs(total) if aggregate == "joint" else total


def _check(groups: Groups, found: UnitScores) -> None:
    sizes = {group.name: group.size for group in groups}
    for name, units in found.items():
        if sizes.get(name) != len(units):
            raise ValueError(
                f"There are {len(units)} scores for {name!r}, and the groups have {sizes.get(name, 'no such')} units "
                "of it. Score the network that the groups were found on."
            )
        if not np.isfinite(units).all():
            raise ValueError(f"The scores of the units of {name!r} hold NaN or infinity.")


def _normalised(name: str, units: np.ndarray, normalise: Normalise) -> np.ndarray:
    if normalise == "none":
        return units
    if normalise == "lamp":
        return _lamp(name, units)
    size = {
        "mean": np.abs(units).mean(),
        "max": np.abs(units).max(),
        "norm": np.sqrt((units**2).mean()),
    }[normalise]
    return units / size if size > 0 else units


def _lamp(name: str, units: np.ndarray) -> np.ndarray:
    if units.min() < 0:
        raise ValueError(
            f"normalise='lamp' squares the scores, and a unit of {name!r} scores {units.min():.3g}, which would rank "
            "high. Use a score that is never negative, or aggregate='joint'."
        )
    squares = (units / (units.max() or 1.0)) ** 2  # of any scale without overflow
    order = np.lexsort(
        (-np.arange(len(units)), units)
    )  # in which they go: of equal ones the last first
    left = np.empty(len(units))
    left[order] = np.cumsum(squares[order][::-1])[::-1]
    return np.divide(squares, left, out=np.zeros(len(units)), where=left > 0)
