r"""Exact selection over a whole pytree without sorting, concatenating or gathering it.

Floats are read as unsigned integers whose order is the floats' order. The k-th largest key is then found
digit by digit: with the higher digits fixed, one pass over the tree counts how many keys reach each of the
three candidates for the next two bits, and the largest candidate that k keys reach is kept. A 32-bit key
takes sixteen passes that read the scores and write nothing; keys are recomputed in every pass. Sharded
leaves contribute counts only.

Ties at the threshold are cut by a second search of the same kind, over the index in flatten order; a
`cond` skips it when the threshold has no ties to cut.
"""

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt

from wormjax._counts import as_density, check_total, floor_count
from wormjax._masks import never_pruned
from wormjax._paths import leaf_names

DIGIT = 2  # bits settled by one pass: three counts a pass cost as much as one (reading dominates)

Scope = Literal["global", "leaf"]
Ties = Literal["index", "strict"]


def ordered_keys(x: Float[Array, "..."], bits: int = 32) -> UInt[Array, "..."]:
    """Return unsigned integers that compare as the floats do; both zeros share one key.

    Integer operations only, so that subnormal numbers keep their order on backends that flush them.
    """
    if x.dtype == jnp.bfloat16 and bits == 32:
        raw = lax.bitcast_convert_type(x, jnp.uint16).astype(jnp.uint32) << 16
    elif bits == 32:
        raw = lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    else:
        raw = lax.bitcast_convert_type(_as_double(x), jnp.uint64)
    top = jnp.array(1 << (bits - 1), raw.dtype)
    raw = jnp.where(raw == top, jnp.zeros((), raw.dtype), raw)  # -0.0 is 0.0
    return jnp.where((raw & top) != 0, ~raw, raw | top)


def _as_double(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Convert to float64 exactly: a backend that flushes subnormal numbers would widen them to zero."""
    if x.dtype not in (jnp.float32, jnp.bfloat16):
        return x.astype(jnp.float64)
    fraction = 23 if x.dtype == jnp.float32 else 7
    raw = lax.bitcast_convert_type(x, jnp.uint32 if fraction == 23 else jnp.uint16)
    top = jnp.array(1 << (fraction + 8), raw.dtype)
    magnitude = raw & (top - jnp.array(1, raw.dtype))
    subnormal = magnitude.astype(jnp.float64) * 2.0 ** (-126 - fraction)
    subnormal = jnp.where((raw & top) != 0, -subnormal, subnormal)
    return jnp.where(magnitude < (1 << fraction), subnormal, x.astype(jnp.float64))


def _count_each(tests: Sequence[Bool[Array, "..."]]) -> list[Int[Array, ""]]:
    """Count the true entries of several arrays in one pass over what they are computed from."""
    shape = tests[0].shape
    if not shape or 0 in shape:
        return [jnp.sum(t, dtype=jnp.int32) for t in tests]
    zero = jnp.int32(0)
    return list(
        lax.reduce(
            tuple(t.astype(jnp.int32) for t in tests),
            (zero,) * len(tests),
            lambda xs, ys: tuple(x + y for x, y in zip(xs, ys, strict=True)),
            tuple(range(len(shape))),
        )
    )


def _search(bits: int, dtype: jnp.dtype, accept: Callable[[list[Array]], Sequence[Array]]) -> Array:
    """Return the largest unsigned integer that a monotone test accepts, two bits a pass.

    ``accept`` maps candidates in rising order to whether each is still small enough.
    """
    candidates = range(1, 1 << DIGIT)
    passes = -(-bits // DIGIT)

    def settle(i, found):
        shift = (DIGIT * (passes - 1 - i)).astype(dtype)
        accepted = accept([found | (jnp.array(c, dtype) << shift) for c in candidates])
        digit = sum((a.astype(dtype) for a in accepted), jnp.zeros((), dtype))
        return found | (digit << shift)

    return lax.fori_loop(0, passes, settle, jnp.zeros((), dtype))


def _flat_index(shape: tuple[int, ...], offset: Array) -> UInt[Array, "..."]:
    index = jnp.full(shape, offset, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        index = index + lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
        stride *= shape[axis]
    return index


def _as_it_is(x: Any) -> Any:
    return x


def largest(
    leaves: Sequence[Any],
    kept: int | Int[Array, ""],
    ties: Ties = "index",
    score: Callable[[Any], Float[Array, "..."]] = _as_it_is,
) -> list[Bool[Array, "..."]]:
    """Return masks of the ``kept`` largest entries of several arrays taken together.

    Args:
      leaves: float arrays of any shapes and dtypes; or whatever ``score`` makes such an array of.
      kept: how many entries to keep; may be a traced int32.
      ties: ``"index"`` keeps exactly ``kept`` and prefers the lower index in flatten order;
        ``"strict"`` keeps what exceeds the ``kept``-th largest value, thus at most ``kept - 1``.
      score: computed anew in every pass and never stored; entry by entry, or it is expensive.

    Returns:
      One bool mask an array, each of that array's shape.
    """
    if not leaves:
        return []
    made = [jax.eval_shape(score, x) for x in leaves]
    sizes = [x.size for x in made]
    total = check_total(sizes)
    bits = 64 if any(x.dtype == jnp.float64 for x in made) else 32
    dtype = jnp.dtype("uint64" if bits == 64 else "uint32")
    kept = jnp.asarray(kept, jnp.int32)

    starts = [jnp.uint32(sum(sizes[:i])) for i in range(len(sizes))]

    def count(test: Callable[..., list[Array]], bounds: list[Array]) -> list[Array]:
        """Sum over the leaves what ``test(key, index, bounds)`` finds true, test by test."""
        # tied to the bounds, or XLA would compute keys and indices once, before the loop, and store them
        xs, offsets, bounds = lax.optimization_barrier((leaves, starts, bounds))
        per_leaf = [
            _count_each(test(ordered_keys(score(x), bits), _flat_index(like.shape, offset), bounds))
            for x, like, offset in zip(xs, made, offsets, strict=True)
        ]
        return [sum(column[1:], column[0]) for column in zip(*per_leaf, strict=True)]

    def reached(candidates):
        found = count(lambda key, _, bounds: [key >= c for c in bounds], candidates)
        return [n >= kept for n in found]

    threshold = _search(bits, dtype, reached)
    if ties == "strict":
        return [ordered_keys(score(x), bits) > threshold for x in leaves]

    above, tied = count(lambda key, _, bounds: [key > bounds[0], key == bounds[0]], [threshold])
    spare = kept - above  # how many of the tied entries may stay

    def cut():
        def few_enough(candidates):
            below = count(
                lambda key, index, bounds: [(key == threshold) & (index < c) for c in bounds],
                candidates,
            )
            return [n <= spare for n in below]

        return _search(total.bit_length(), jnp.dtype("uint32"), few_enough)

    bound = lax.cond(tied > spare, cut, lambda: jnp.array(total, jnp.uint32))
    return [
        (key > threshold) | ((key == threshold) & (_flat_index(key.shape, start) < bound))
        for key, start in zip((ordered_keys(score(x), bits) for x in leaves), starts, strict=True)
    ]


def ranked(scores: PyTree) -> list[Any]:
    """Return the leaves of a score tree that take part in pruning, in flatten order."""
    return [x for x in jax.tree.leaves(scores) if jnp.ndim(x)]


def ranked_names(scores: PyTree) -> list[str]:
    """Return the path names of the leaves that take part in pruning, in flatten order."""
    return [
        n for n, x in zip(leaf_names(scores), jax.tree.leaves(scores), strict=True) if jnp.ndim(x)
    ]


def check_scores(scores: PyTree) -> None:
    """Raise where a ranked leaf is no float array, or, outside jit, holds NaN or infinity."""
    flags = []
    for name, x in zip(ranked_names(scores), ranked(scores), strict=True):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                f"The score at {name!r} has dtype {x.dtype}; scores are floats. Make the leaf rank-0 if it "
                "must not be pruned."
            )
        flags.append((name, all_finite(x)))
    for name, flag in flags:
        if not isinstance(flag, jax.core.Tracer) and not flag:
            raise ValueError(
                f"The score at {name!r} holds NaN or infinity. Only a rank-0 leaf may be infinite (it is "
                "never pruned); look for a diverged step or an overflow in the score."
            )


@jax.jit
def all_finite(x: Float[Array, "..."]) -> Bool[Array, ""]:
    """Whether every entry is finite."""
    return jnp.all(jnp.isfinite(x))


def place(masks: Sequence[Array], scores: PyTree) -> PyTree:
    """Return a mask tree with the structure of ``scores`` from the masks of its ranked leaves."""
    of_ranked = iter(masks)
    leaves = [next(of_ranked) if jnp.ndim(x) else never_pruned() for x in jax.tree.leaves(scores)]
    return jax.tree.unflatten(jax.tree.structure(scores), leaves)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def select(scores: PyTree, kept: tuple[int, ...], scope: Scope, ties: Ties) -> PyTree:
    """Return the masks of given exact counts: one count for all leaves, or one a ranked leaf."""
    leaves = ranked(scores)
    if scope == "global":
        return place(largest(leaves, kept[0], ties), scores)
    return place([largest([x], k, ties)[0] for x, k in zip(leaves, kept, strict=True)], scores)


def top_masks(
    scores: PyTree,
    *,
    density: float | int | str | Fraction,
    scope: Scope = "global",
    ties: Ties = "index",
) -> PyTree[Bool[Array, "..."]]:
    r"""Masks that keep the largest scores: exactly :math:`\lfloor d\,N \rfloor` of them.

    Args:
      scores: float32, bfloat16 or float16 leaves (float64 under x64) that broadcast against their
        parameters; rank-0 leaves are never pruned. Higher is more important.
      density: fraction of score entries to keep, in (0, 1]. A decimal is taken as written (0.29 of 100
        is 29).
      scope: ``"global"`` ranks all entries together, ``"leaf"`` each leaf by itself.
      ties: ``"index"`` keeps the exact count, lower indices first; ``"strict"`` keeps only what exceeds
        the k-th largest value (the rule of the Early-Bird code: one entry fewer, or all of a tie).

    Returns:
      Mask tree of the scores' structure and shapes, each leaf sharded as its score.

    Raises:
      ValueError: density outside (0, 1]; an unknown scope or rule; no ranked leaf; NaN or infinity in a
        ranked leaf (outside jit; inside, the detector's state carries the flag), naming its path.

    Example:
      >>> import jax.numpy as jnp
      >>> scores = {"a": jnp.array([0.1, 0.9]), "b": jnp.array([0.5, 0.3]), "c": jnp.array(jnp.inf)}
      >>> masks = top_masks(scores, density=0.5)
      >>> print(masks["a"], masks["b"], masks["c"])
      [False  True] [ True False] True
    """
    ratio = as_density("density", density)
    check_choice("scope", scope, ("global", "leaf"))
    check_choice("ties", ties, ("index", "strict"))
    leaves = ranked(scores)
    if not leaves:
        raise ValueError(
            "The score tree has no leaf to prune: every leaf is rank-0. Widen the rule that says which "
            "leaves are prunable."
        )
    check_scores(scores)
    sizes = [x.size for x in leaves]
    kept = (
        [floor_count(ratio, sum(sizes))]
        if scope == "global"
        else [floor_count(ratio, n) for n in sizes]
    )
    return select(scores, tuple(kept), scope, ties)


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise where ``value`` is none of the words it may be."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")
