"""Mask pytrees: applied, counted, compared.

A mask tree has the structure of its parameters. A leaf is a bool array of the parameter's rank that
broadcasts against it, ``True`` keeps; a leaf that is never pruned is the rank-0 array ``True``, and it is
recognised by its rank.
"""

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from wormjax._counts import check_total
from wormjax._paths import leaf_names


def never_pruned() -> Bool[Array, ""]:
    """Return the mask leaf of a parameter that must never be pruned."""
    return jnp.ones((), bool)


def check_same_structure(a: PyTree, b: PyTree, what_a: str, what_b: str) -> None:
    """Raise a ValueError naming the first path at which two trees differ in structure."""
    structure_a: Any = jax.tree.structure(a)
    if structure_a == jax.tree.structure(b):
        return
    names_a, names_b = leaf_names(a), leaf_names(b)
    for name in names_a:
        if name not in names_b:
            raise ValueError(
                f"{what_b} have another structure than {what_a}: leaf {name!r} is missing. "
                f"Build {what_b} from the same tree as {what_a}."
            )
    for name in names_b:
        if name not in names_a:
            raise ValueError(
                f"{what_b} have another structure than {what_a}: leaf {name!r} is not in {what_a}. "
                f"Build {what_b} from the same tree as {what_a}."
            )
    raise ValueError(
        f"{what_b} and {what_a} have the same leaf names but other containers: "
        f"{jax.tree.structure(b)} against {jax.tree.structure(a)}. Convert one to the other's types."
    )


def check_bool(name: str, mask: Any) -> None:
    """Raise a ValueError where the mask leaf called ``name`` is no bool array."""
    if not hasattr(mask, "dtype"):
        raise ValueError(
            f"The mask at {name!r} is of type {type(mask).__name__}, not a bool array."
        )
    if mask.dtype != jnp.bool_:
        raise ValueError(f"The mask at {name!r} holds {mask.dtype}, not bool. True keeps an entry.")


def check_masks(params: PyTree, masks: PyTree) -> None:
    """Raise a ValueError naming the first leaf whose mask does not fit its parameter."""
    check_same_structure(params, masks, "params", "masks")
    for name, p, m in zip(
        leaf_names(params), jax.tree.leaves(params), jax.tree.leaves(masks), strict=True
    ):
        check_bool(name, m)
        if m.ndim == 0:
            continue
        shape = jnp.shape(p)
        fits = len(shape) == m.ndim and all(
            k in (1, n) for k, n in zip(m.shape, shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"The mask at {name!r} has shape {m.shape}, which does not broadcast against the "
                f"parameter's {shape} at equal rank. Reshape it, for example to "
                f"{(1,) * (len(shape) - 1) + tuple(shape[-1:])} for one bit an output channel."
            )


def apply_masks(params: PyTree, masks: PyTree) -> PyTree:
    r"""Return ``params`` with pruned entries exactly zero.

    .. math:: \hat\theta_i = \theta_i \text{ if } m_i \text{ else } 0

    It selects and does not multiply, since ``0 * inf`` is NaN. Gradients through it are zero at pruned
    entries, so that it can stand inside a loss.

    Args:
      params: any pytree of arrays.
      masks: bool pytree of the same structure, each leaf of the parameter's rank and broadcasting against
        it, or rank-0 for a leaf that is never pruned.

    Returns:
      A tree like ``params``: same shapes, same dtypes.

    Raises:
      ValueError: structures or shapes differ; the message names the first path.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"scale": jnp.array([1.0, 2.0, 3.0]), "bias": jnp.ones(3)}
      >>> masks = {"scale": jnp.array([True, False, True]), "bias": jnp.array(True)}
      >>> print(apply_masks(params, masks)["scale"])
      [1. 0. 3.]
    """
    check_masks(params, masks)

    def apply(p, m):
        return p if m.ndim == 0 else jnp.where(m, p, jnp.zeros((), jnp.result_type(p)))

    return jax.tree.map(apply, params, masks)


def count_kept(masks: PyTree, params: PyTree) -> tuple[Int[Array, ""], int]:
    """Return kept and all entries of the prunable leaves, in entries of the parameters.

    A channel mask of shape ``(1, C)`` on a ``(K, C)`` kernel counts ``K`` entries a channel.

    Returns:
      ``(kept, total)``: int32 scalar on the device, exact; and a Python integer.

    Raises:
      ValueError: structures or shapes differ, or 2^31 entries and more.

    Example:
      >>> import jax.numpy as jnp
      >>> kept, total = count_kept({"w": jnp.array([[True, False]])}, {"w": jnp.ones((3, 2))})
      >>> int(kept), total
      (3, 6)
    """
    check_masks(params, masks)
    pairs = [
        (m, math.prod(jnp.shape(p)))
        for m, p in zip(jax.tree.leaves(masks), jax.tree.leaves(params), strict=True)
        if m.ndim
    ]
    total = check_total([size for _, size in pairs])
    kept = jnp.zeros((), jnp.int32)
    for m, size in pairs:
        kept = kept + jnp.sum(m, dtype=jnp.int32) * (size // m.size if m.size else 0)
    return kept, total


def density(masks: PyTree, params: PyTree) -> Float[Array, ""]:
    r"""Fraction of the prunable entries that are kept.

    .. math:: \text{density} = \frac{\text{kept entries}}{\text{entries of prunable leaves}}

    Args:
      masks: mask tree.
      params: the parameters it masks (shapes only are read).

    Returns:
      Scalar float32 in [0, 1]; use `count_kept` for the exact integers.

    Raises:
      ValueError: structures or shapes differ, or no leaf is prunable.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
      >>> masks = {"w": jnp.array([[True, False], [False, False]]), "b": jnp.array(True)}
      >>> print(density(masks, params))
      0.25
    """
    kept, total = count_kept(masks, params)
    if total == 0:
        raise ValueError(
            "The mask tree has no prunable leaf (all are rank-0), so it has no density."
        )
    return kept.astype(jnp.float32) / total


def _ranked_pairs(a: PyTree, b: PyTree) -> list[tuple[Array, Array]]:
    check_same_structure(a, b, "the first masks", "the second masks")
    pairs = []
    for name, x, y in zip(leaf_names(a), jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        check_bool(name, x)
        check_bool(name, y)
        if jnp.shape(x) != jnp.shape(y):
            raise ValueError(
                f"The masks at {name!r} have different shapes: {jnp.shape(x)} and {jnp.shape(y)}."
            )
        if jnp.ndim(x):
            pairs.append((x, y))
    return pairs


def mask_distance(a: PyTree, b: PyTree) -> Float[Array, ""]:
    r"""Fraction of mask entries on which two mask trees disagree.

    Every entry counts alike, whatever the width of its layer:

    .. math:: d(a, b) = \frac{1}{N} \sum_{i=1}^{N} \mathbf{1}[a_i \neq b_i]

    Args:
      a: mask tree; ``True`` = kept.
      b: mask tree of the same structure and shapes.

    Returns:
      Scalar float32 in [0, 1].

    Raises:
      ValueError: structures or shapes differ, naming the first path; or no leaf is prunable.

    Example:
      >>> import jax.numpy as jnp
      >>> a = {"bn1": jnp.array([1, 1, 0, 0], bool), "bn2": jnp.array([1, 0], bool)}
      >>> b = {"bn1": jnp.array([1, 0, 1, 0], bool), "bn2": jnp.array([1, 0], bool)}
      >>> print(f"{mask_distance(a, b):.4f}")
      0.3333

    References:
      You et al., `Drawing Early-Bird Tickets <https://arxiv.org/abs/1909.11957>`_, 2020
    """
    pairs = _ranked_pairs(a, b)
    total = check_total([x.size for x, _ in pairs])
    if total == 0:
        raise ValueError(
            "The mask trees have no prunable leaf (all are rank-0), so they have no distance."
        )
    differing = sum((jnp.sum(x != y, dtype=jnp.int32) for x, y in pairs), jnp.zeros((), jnp.int32))
    return differing.astype(jnp.float32) / total


class Jaccard(NamedTuple):
    """Jaccard index of two mask trees: over all entries, and leaf by leaf (NaN at unprunable leaves)."""

    total: Float[Array, ""]
    leaves: PyTree[Float[Array, ""]]


def jaccard(a: PyTree, b: PyTree, over: Literal["kept", "pruned"] = "kept") -> Jaccard:
    r"""Jaccard index of the kept (or pruned) entries of two mask trees.

    .. math:: J(A, B) = \frac{|A \cap B|}{|A \cup B|}, \qquad J(\emptyset, \emptyset) = 1

    Args:
      a: mask tree.
      b: mask tree of the same structure and shapes.
      over: compare the sets of ``"kept"`` or of ``"pruned"`` entries.

    Returns:
      `Jaccard`: float32 scalar over all entries, and a tree of float32 scalars by leaf, where a leaf that
      is never pruned holds NaN.

    Raises:
      ValueError: structures or shapes differ, or ``over`` is neither word.

    Example:
      >>> import jax.numpy as jnp
      >>> a, b = {"w": jnp.array([1, 1, 0, 0], bool)}, {"w": jnp.array([1, 0, 1, 0], bool)}
      >>> print(f"{jaccard(a, b, over='kept').total:.4f}")
      0.3333

    References:
      Nowak et al., `Fantastic Weights and How to Find Them <https://arxiv.org/abs/2306.12230>`_, 2023
    """
    if over not in ("kept", "pruned"):
        raise ValueError(f"over must be 'kept' or 'pruned', got {over!r}.")
    pairs = _ranked_pairs(a, b)
    check_total([x.size for x, _ in pairs])

    def counts(x, y):
        if over == "pruned":
            x, y = ~x, ~y
        return jnp.sum(x & y, dtype=jnp.int32), jnp.sum(x | y, dtype=jnp.int32)

    def index(both, either):
        # an empty union means two empty sets, which agree
        ratio = both.astype(jnp.float32) / jnp.maximum(either, 1).astype(jnp.float32)
        return jnp.where(either == 0, jnp.float32(1), ratio)

    counted = [counts(x, y) for x, y in pairs]
    zero = jnp.zeros((), jnp.int32)
    total = index(sum((c for c, _ in counted), zero), sum((c for _, c in counted), zero))
    of_leaf = iter([index(*c) for c in counted])
    leaves = [next(of_leaf) if jnp.ndim(x) else jnp.float32(math.nan) for x in jax.tree.leaves(a)]
    return Jaccard(total, jax.tree.unflatten(jax.tree.structure(a), leaves))
