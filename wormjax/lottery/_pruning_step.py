"""One round of magnitude pruning: so many of the weights that remain go, exactly."""

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from wormjax._counts import check_total, ratio_in_unit_interval
from wormjax._masks import apply_masks, never_pruned
from wormjax._paths import leaf_names
from wormjax._selection import (
    Scope,
    all_finite,
    check_choice,
    check_scores,
    largest,
    ranked,
    ranked_names,
    select,
)
from wormjax.scores._protocol import as_score

CountRule = Literal["round", "ceil", "open_lth"]
COUNT_RULES = ("round", "ceil", "open_lth")


def pruned_count(remaining: int, rate: Fraction, rule: CountRule) -> int:
    """Return how many of ``remaining`` weights a round removes; ``open_lth`` removes one more, or a whole tie."""
    return round(rate * remaining) if rule == "round" else math.ceil(rate * remaining)


def round_counts(
    total: int,
    rounds: int,
    rate: float | int | str | Fraction = 0.2,
    count_rule: CountRule = "round",
) -> list[int]:
    r"""Return how many weights each round of iterative pruning leaves, in exact integers.

    .. math:: n_0 = N, \qquad n_r = n_{r-1} - \operatorname{round}(\rho\, n_{r-1})

    Args:
      total: prunable weights.
      rounds: how many rounds.
      rate: the fraction of the remaining weights that a round removes.
      count_rule: ``"round"`` (half to even), ``"ceil"``, or ``"open_lth"``, which removes one more where no two
        weights are equal.

    Returns:
      ``rounds + 1`` counts, the dense one first.

    Example:
      >>> round_counts(14_710_464, 3)
      [14710464, 11768371, 9414697, 7531758]
    """
    check_choice("count_rule", count_rule, COUNT_RULES)
    ratio, counts = ratio_in_unit_interval("rate", rate), [total]
    for _ in range(rounds):
        gone = pruned_count(counts[-1], ratio, count_rule) + (count_rule == "open_lth")
        counts.append(counts[-1] - gone)
    return counts


def full_masks(
    params: PyTree, prunable: PyTree[bool] | Sequence[bool]
) -> PyTree[Bool[Array, "..."]]:
    """Return masks that keep everything: of the parameter's shape where it may be pruned, else rank-0."""
    return jax.tree.map(
        lambda x, may: jnp.asarray(np.ones(x.shape, bool)) if may else never_pruned(),
        params,
        prunable,
    )


def prune_step(
    params: PyTree,
    masks: PyTree[Bool[Array, "..."]],
    *,
    rate: float | int | str | Fraction = 0.2,
    scope: Scope = "global",
    count_rule: CountRule = "round",
) -> PyTree[Bool[Array, "..."]]:
    r"""Remove the fraction ``rate`` of the remaining weights, those of the least :math:`|\theta|`.

    Args:
      params: the trained parameters.
      masks: mask tree, of the parameters' shapes at the leaves that may be pruned and rank-0 elsewhere; what it
        prunes stays pruned.
      rate: in (0, 1).
      scope: rank all weights together (``"global"``), or each leaf by itself (``"leaf"``).
      count_rule: see `round_counts`. Ties go by index, the lower one stays; under ``"open_lth"`` a tie goes whole.

    Returns:
      The masks of the next round.

    Raises:
      ValueError: rate outside (0, 1); masks of another model, or channel masks; NaN or infinity in a weight; a leaf
        that would lose its last weight. The message names the leaf.

    Example:
      >>> import jax.numpy as jnp
      >>> masks = prune_step({"w": jnp.arange(1.0, 11.0)}, {"w": jnp.ones(10, bool)})
      >>> print(masks["w"].astype(int))
      [0 0 1 1 1 1 1 1 1 1]

    References:
      Frankle and Carbin, `The Lottery Ticket Hypothesis <https://arxiv.org/abs/1803.03635>`_, 2018
    """
    ratio = ratio_in_unit_interval("rate", rate)
    check_choice("scope", scope, ("global", "leaf"))
    check_choice("count_rule", count_rule, COUNT_RULES)
    counts = mask_counts(params, masks)
    remaining = [sum(counts.values())] if scope == "global" else list(counts.values())
    kept = [n - pruned_count(n, ratio, count_rule) for n in remaining]
    return keep_largest(params, masks, kept, "strict" if count_rule == "open_lth" else "index")


def mask_counts(params: PyTree, masks: PyTree) -> dict[str, int]:
    """Return how many entries each leaf that may be pruned keeps, by path.

    Raises:
      ValueError: the masks do not fit, are channel masks, or leave nothing to prune.
    """
    jax.eval_shape(apply_masks, params, masks)
    counts: dict[str, Any] = {}
    for name, x, mask in zip(
        leaf_names(params), jax.tree.leaves(params), jax.tree.leaves(masks), strict=True
    ):
        if mask.ndim and mask.shape != x.shape:
            raise ValueError(
                f"The mask at {name!r} has shape {mask.shape}, one bit for several weights of {x.shape}. Pruning "
                "weight by weight needs a bit for each: broadcast it."
            )
        if mask.ndim:
            counts[name] = np.count_nonzero(np.asarray(mask))
    if not counts:
        raise ValueError(
            "Every mask is rank-0: nothing may be pruned. Widen the rule for prunable."
        )
    check_total([mask.size for mask in jax.tree.leaves(masks) if mask.ndim])
    return {name: int(count) for name, count in counts.items()}


def keep_largest(
    params: PyTree, masks: PyTree, kept: Sequence[int], ties: Literal["index", "strict"] = "index"
) -> PyTree[Bool[Array, "..."]]:
    """Return masks of the largest magnitudes among what ``masks`` keeps: ``kept`` in all, or leaf by leaf."""
    chosen = [(x, m) for x, m in zip(*map(jax.tree.leaves, (params, masks)), strict=True) if m.ndim]
    found, finite, counts = _select(
        [x for x, _ in chosen], [m for _, m in chosen], np.asarray(kept, np.int32), ties
    )
    names = [n for n, m in zip(leaf_names(masks), jax.tree.leaves(masks), strict=True) if m.ndim]
    for name, fine, count in zip(names, np.asarray(finite), np.asarray(counts), strict=True):
        if not fine:
            raise ValueError(
                f"The weights at {name!r} hold NaN or infinity: training diverged. Lower the learning rate."
            )
        if count == 0:
            raise ValueError(_emptied(name))
    of_pruned = iter(found)
    leaves = [next(of_pruned) if m.ndim else m for m in jax.tree.leaves(masks)]
    return jax.tree.unflatten(jax.tree.structure(masks), leaves)


def score_masks(scores: PyTree[Float[Array, "..."]], kept: int) -> PyTree[Bool[Array, "..."]]:
    """Return masks of exactly ``kept`` entries by any score: a source beside iterative pruning, of the same count.

    Args:
      scores: score tree; a rank-0 leaf is never pruned. Higher stays, ties go by index.
      kept: how many entries stay in all, such as one of `round_counts`.

    Returns:
      Mask tree. (For random masks see `wormjax.random_like`, for magnitude at once `branch` with ``"one_shot"``.)

    Raises:
      ValueError: NaN or infinity in a ranked leaf; no such count; a leaf that would be emptied.

    Example:
      >>> import jax.numpy as jnp
      >>> scores = {"a": jnp.array([0.1, 0.9]), "b": jnp.array([-0.5, 0.3]), "c": jnp.array(jnp.inf)}
      >>> masks = score_masks(scores, 2)
      >>> print(masks["a"], masks["b"], masks["c"])
      [False  True] [False  True] True
    """
    check_scores(scores)
    total = check_total([x.size for x in ranked(scores)])
    if not 1 <= kept <= total:
        raise ValueError(f"kept={kept} is no count of the {total} ranked entries.")
    masks = select(scores, (kept,), "global", "index")
    for name, mask in zip(ranked_names(scores), ranked(masks), strict=True):
        if not np.asarray(mask).any():
            raise ValueError(_emptied(name))
    return masks


def _emptied(name: str) -> str:
    return (
        f"Pruning would empty {name!r}: it would lose its last weight. Do fewer rounds, prune with scope='leaf', or "
        "leave this leaf out of prunable."
    )


@functools.partial(jax.jit, static_argnums=3)
def _select(
    weights: list[Array],
    masks: list[Array],
    kept: Int[Array, " _"],
    ties: Literal["index", "strict"],
) -> tuple[list[Array], Bool[Array, " _"], Int[Array, " _"]]:
    """The masks, whether each leaf's weights are finite, and each leaf's count."""

    def score(pair: tuple[Array, Array]) -> Float[Array, "..."]:
        x, mask = pair
        size = jnp.abs(as_score(x))
        return jnp.where(mask, size, jnp.full((), -1, size.dtype))

    pairs = list(zip(weights, masks, strict=True))
    if kept.shape[0] == 1:
        found = largest(pairs, kept[0], ties, score)
    else:
        found = [largest([p], k, ties, score)[0] for p, k in zip(pairs, kept, strict=True)]
    # ties among pruned weights, all at -1, may not bring one back
    found = [new & old for new, old in zip(found, masks, strict=True)]
    finite = jnp.stack([all_finite(x) for x in weights])
    return found, finite, jnp.stack([jnp.sum(m, dtype=jnp.int32) for m in found])
