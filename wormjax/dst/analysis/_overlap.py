"""How alike are the decisions of different criteria, and the masks of different times?"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from wormjax._counts import as_fraction, ratio_in_unit_interval
from wormjax._masks import check_masks, check_same_structure, jaccard
from wormjax._selection import check_choice, largest, place, ranked, ranked_names


def removed_sets(
    scores: Mapping[str, PyTree],
    masks: PyTree,
    fraction: float | str | Fraction,
    scope: str = "leaf",
) -> dict[str, PyTree]:
    r"""Return what each of several criteria would drop from the same masks.

    Of the :math:`n_l` kept entries of a leaf the :math:`\lceil p\,n_l \rceil` with the lowest scores, ties
    from the highest index on; nothing else of the scores is read.

    Args:
      scores: for each criterion its score tree, higher is more important; all of the same state. A leaf that
        the masks never prune may hold anything.
      masks: mask tree; every entry of its ranked leaves has a score.
      fraction: p, strictly between 0 and 1. Its numerator times its denominator must fit 31 bits (four decimals
        do).
      scope: ``"leaf"`` drops from every leaf for itself, ``"global"`` the same number over all of them.

    Returns:
      For each criterion a mask tree in which ``True`` is dropped; a leaf that is never pruned holds the rank-0
      ``False``. It may be called under ``jax.jit``.

    Raises:
      ValueError: a fraction out of range, scores that do not fit the masks.

    Example:
      >>> import jax.numpy as jnp
      >>> masks = {"w": jnp.array([1, 1, 1, 1, 0], bool)}
      >>> dropped = removed_sets({"size": {"w": jnp.array([4.0, 1.0, 3.0, 2.0, 9.0])}}, masks, 0.5)
      >>> print(dropped["size"]["w"])
      [False  True False  True False]

    References:
      Nowak et al., `Fantastic Weights and How to Find Them <https://arxiv.org/abs/2306.12230>`_, 2023
    """
    ratio = ratio_in_unit_interval("fraction", fraction)
    if ratio.numerator * ratio.denominator >= 2**31:
        raise ValueError(
            f"fraction {fraction} is {ratio}, too long for exact 32-bit counts. Write it with four decimals or fewer."
        )
    check_choice("scope", scope, ("leaf", "global"))
    names = ranked_names(masks)
    active = ranked(masks)
    found = {}
    for criterion, tree in scores.items():
        check_same_structure(masks, tree, "masks", f"scores of {criterion!r}")
        pairs = zip(jax.tree.leaves(masks), jax.tree.leaves(tree), strict=True)
        chosen = [s for m, s in pairs if jnp.ndim(m)]
        for name, m, s in zip(names, active, chosen, strict=True):
            if jnp.shape(s) != m.shape:
                raise ValueError(
                    f"The score of {criterion!r} at {name!r} has shape {jnp.shape(s)} and the mask {m.shape}. Score "
                    "every entry that the mask can drop."
                )
        found[criterion] = chosen
    if not active:
        raise ValueError("The mask tree has no prunable leaf (all are rank-0): nothing is dropped.")
    numbers = (ratio.numerator, ratio.denominator)
    return {
        criterion: removed_from(masks, place(_kept(chosen, active, numbers, scope), masks))
        for criterion, chosen in found.items()
    }


def removed_from(before: PyTree, after: PyTree) -> PyTree[Bool[Array, "..."]]:
    """Return the entries that ``before`` keeps and ``after`` does not.

    Args:
      before: mask tree.
      after: mask tree of the same structure and shapes.

    Returns:
      A tree in which ``True`` was dropped; a leaf that is never pruned holds the rank-0 ``False``.

    Example:
      >>> import jax.numpy as jnp
      >>> print(removed_from({"w": jnp.array([True, True])}, {"w": jnp.array([False, True])})["w"])
      [ True False]
    """
    check_masks(before, after)
    return jax.tree.map(lambda b, a: jnp.zeros((), bool) if b.ndim == 0 else b & ~a, before, after)


class JaccardMatrix(NamedTuple):
    """What `jaccard_matrix` returns.

    Attributes:
      names: of the sets, in the order of rows and columns.
      total: float32 ``[C, C]``, over the entries of all leaves together.
      leaves: for each ranked leaf, by its path, the same of that leaf.
    """

    names: tuple[str, ...]
    total: Float[Array, "c c"]
    leaves: dict[str, Float[Array, "c c"]]


def jaccard_matrix(sets: Mapping[str, PyTree]) -> JaccardMatrix:
    r"""Return the Jaccard index of every two sets of entries, :math:`|A \cap B| / |A \cup B|`.

    Two empty sets are alike. `chance_jaccard` says what unrelated criteria would have.

    Args:
      sets: for each name a tree of bools of one structure, as `removed_sets` returns.

    Returns:
      `JaccardMatrix`.

    Raises:
      ValueError: no sets, or structures or shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> sets = {"a": {"w": jnp.array([1, 1, 0], bool)}, "b": {"w": jnp.array([0, 1, 1], bool)}}
      >>> print(jaccard_matrix(sets).total.round(3))
      [[1.    0.333]
       [0.333 1.   ]]
    """
    if not sets:
        raise ValueError("There is no set to compare. Give at least one, {'magnitude': dropped}.")
    trees = list(sets.values())
    for name, tree in sets.items():
        check_same_structure(trees[0], tree, "the first set", f"the set {name!r}")
        shapes = [jnp.shape(x) for x in jax.tree.leaves(tree)]
        if shapes != [jnp.shape(x) for x in jax.tree.leaves(trees[0])]:
            raise ValueError(f"The set {name!r} has leaves of other shapes than the first one.")
    total, leaves = _matrices([ranked(tree) for tree in trees])
    return JaccardMatrix(tuple(sets), total, dict(zip(ranked_names(trees[0]), leaves, strict=True)))


def chance_jaccard(fraction: float | str | Fraction) -> float:
    r"""Return the Jaccard index that two unrelated sets of the fraction p have, :math:`p / (2 - p)`.

    That is the limit for many entries, of which each set holds a random fraction p.

    Args:
      fraction: p, in [0, 1].

    Raises:
      ValueError: it is out of range.

    Example:
      >>> [round(chance_jaccard(p), 4) for p in (0.5, 0.25, 0.125, 0.0625)]
      [0.3333, 0.1429, 0.0667, 0.0323]
    """
    p = as_fraction("fraction", fraction)
    if not 0 <= p <= 1:
        raise ValueError(f"fraction must lie in [0, 1], got {fraction}.")
    return float(p / (2 - p))


class Overlap(NamedTuple):
    """What `overlap` returns.

    Attributes:
      total: float32, Jaccard index of the kept entries of all leaves.
      leaves: by path, the same of every ranked leaf.
      chance: float32, what independent random masks with the same count in every leaf would have.
    """

    total: Float[Array, ""]
    leaves: dict[str, Float[Array, ""]]
    chance: Float[Array, ""]


def overlap(first: PyTree, last: PyTree) -> Overlap:
    r"""Compare two masks of one training, such as the initial and the final one, with chance.

    Chance is :math:`\sum_l I_l / \sum_l (a_l + b_l - I_l)` with :math:`I_l = a_l b_l / N_l` for the
    counts :math:`a_l, b_l` of the leaves.

    Args:
      first: mask tree.
      last: mask tree of the same structure and shapes.

    Returns:
      `Overlap`.

    Raises:
      ValueError: structures or shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> first, last = jnp.array([1, 1, 0, 0], bool), jnp.array([1, 0, 1, 0], bool)
      >>> found = overlap({"w": first}, {"w": last})
      >>> print(f"{found.total:.3f} {found.chance:.3f}")
      0.333 0.333
    """
    check_same_structure(first, last, "the first masks", "the last masks")
    index = _jaccard(first, last)
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(index.leaves), strict=True)
    leaves = [j for m, j in pairs if jnp.ndim(m)]
    chance = _chance(ranked(first), ranked(last))
    return Overlap(index.total, dict(zip(ranked_names(first), leaves, strict=True)), chance)


def step_to_step(masks: Sequence[PyTree]) -> list[Overlap]:
    """Compare every mask of a training with the one before it.

    Args:
      masks: mask trees of growing time, of one structure.

    Returns:
      One `Overlap` less than there are masks.

    Example:
      >>> import jax.numpy as jnp
      >>> masks = [{"w": jnp.array(m, bool)} for m in ([1, 1, 0], [1, 0, 1], [1, 0, 1])]
      >>> [round(float(o.total), 3) for o in step_to_step(masks)]
      [0.333, 1.0]
    """
    return [overlap(a, b) for a, b in itertools.pairwise(masks)]


_jaccard = jax.jit(jaccard)  # op by op it would compile each


@jax.jit
def _chance(first: list[Array], last: list[Array]) -> Float[Array, ""]:
    both = total = jnp.float32(0)
    for x, y in zip(first, last, strict=True):
        a, b = (jnp.sum(m, dtype=jnp.int32).astype(jnp.float32) for m in (x, y))
        expected = a * (b / x.size)
        both, total = both + expected, total + a + b - expected
    return jnp.where(total > 0, both / jnp.maximum(total, 1e-30), jnp.float32(1))


@jax.jit
def _matrices(sets: list[list[Array]]) -> tuple[Array, list[Array]]:
    each = []
    for leaves in zip(*sets, strict=True):
        rows = jnp.stack([jnp.ravel(x) for x in leaves])
        a, b = rows[:, None, :], rows[None, :, :]
        each.append((jnp.sum(a & b, -1, dtype=jnp.int32), jnp.sum(a | b, -1, dtype=jnp.int32)))
    both = sum((x for x, _ in each), jnp.zeros((len(sets),) * 2, jnp.int32))
    either = sum((x for _, x in each), jnp.zeros((len(sets),) * 2, jnp.int32))
    return _index(both, either), [_index(*pair) for pair in each]


def _index(both: Int[Array, "c c"], either: Int[Array, "c c"]) -> Float[Array, "c c"]:
    ratio = both.astype(jnp.float32) / jnp.maximum(either, 1).astype(jnp.float32)
    return jnp.where(either == 0, jnp.float32(1), ratio)


@functools.partial(jax.jit, static_argnums=3)
def _kept(
    scores: list[Array], active: list[Array], numbers: tuple[Any, Any], scope: str
) -> list[Array]:
    # what is inactive lies below every finite score: no epsilon tells the two apart
    seen = [
        jnp.where(m, s, jnp.asarray(-jnp.inf, s.dtype)) for s, m in zip(scores, active, strict=True)
    ]
    counts = [jnp.sum(m, dtype=jnp.int32) for m in active]
    if scope == "global":
        total = sum(counts[1:], counts[0])
        return largest(seen, total - _share(total, numbers))
    return [largest([s], n - _share(n, numbers))[0] for s, n in zip(seen, counts, strict=True)]


def _share(n: Int[Array, ""], numbers: tuple[Any, Any]) -> Int[Array, ""]:
    """Return ceil(p n) for p = numerator / denominator, in whole numbers."""
    numerator, denominator = numbers
    whole, rest = n // denominator, n % denominator
    return whole * numerator + (rest * numerator + denominator - 1) // denominator
