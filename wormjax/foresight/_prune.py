"""Iterative pruning before training: score, keep fewer, score again."""

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

from wormjax._counts import check_total
from wormjax._masks import apply_masks, never_pruned
from wormjax._selection import Scope, all_finite, check_choice, largest, place, ranked, ranked_names
from wormjax.foresight._batches import check_pruning_batches
from wormjax.foresight._method import Method, Regrow, as_method
from wormjax.foresight._schedules import Schedule, densities, kept_counts

Threshold = Literal["exact", "reference"]


class Pruned(NamedTuple):
    """What `prune` returns.

    Attributes:
      params: the parameters with pruned entries exactly zero; the others are what they were.
      masks: the masks of the last round.
      densities: what was aimed at in each round.
      kept: ``[rounds, leaves]`` int32, entries that each ranked leaf kept.
      names: path names of these leaves.
      sizes: number of their entries.
    """

    params: PyTree
    masks: PyTree[Bool[Array, "..."]]
    densities: tuple[Fraction, ...]
    kept: Int[np.ndarray, "rounds leaves"]
    names: tuple[str, ...]
    sizes: tuple[int, ...]


def prune(
    score: Method | Callable[[PyTree, Any], PyTree],
    params: PyTree,
    batches: Sequence[Any] = (),
    *,
    density: float | int | str | Fraction,
    rounds: int | None = None,
    schedule: Schedule = "exponential",
    scope: Scope = "global",
    regrow: Regrow | None = None,
    threshold: Threshold = "exact",
    key: PRNGKeyArray | None = None,
) -> Pruned:
    r"""Prune a network before it is trained, in one round or many.

    In each round all weights are scored at the mask so far, and the mask is rebuilt: of n ranked entries
    :math:`n - \lfloor (1 - d_r) \, n \rfloor` stay, ties by index. Scoring and selecting are compiled once for
    all rounds: masks, counts and keys are arguments.

    Args:
      score: a method of `wj.foresight.methods`, or a function of (masked params, batches) that returns a score tree.
      params: any pytree of arrays, fresh or trained; never changed.
      batches: the pruning set, a sequence of pairs (inputs, labels); see `pruning_set`. The same in every round.
      density: fraction of the ranked entries to keep, in (0, 1].
      rounds: how often to score; None for what the method's paper does.
      schedule: how the density falls, see `wj.foresight.densities`.
      scope: ``"global"`` ranks all entries together, ``"leaf"`` each leaf by itself.
      regrow: whether what is pruned may return: ``"as_scored"`` or ``"never"``; None for what suits the method.
      threshold: ``"exact"``; or ``"reference"``, the released code's rule: everything above the k-th smallest score,
        :math:`k = \mathrm{int}((1 - d_r) n)` in floating point, so that all of a tie goes (global scope only).
      key: PRNG key for methods that draw numbers, folded with the round.

    Returns:
      `Pruned`; its masks go into the loss (`wj.apply_masks`), or into `wj.sparse_training` or
      `wj.dst.presets.static` (which keeps them as they are), as ``masks=``.

    Raises:
      ValueError: a density outside (0, 1]; no prunable leaf; an empty pruning set where the method reads one; a score
        that is NaN or infinite, with its leaf and round (a score of paths is NaN once no path is left); batches that
        are no list of batches, or hold no example; under ``"reference"``, 5 entries or more off the count, as ties
        make it.
      TypeError: ``score`` is no function, or one of `wj.foresight.methods` that was not called.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import wormjax as wj
      >>> params = [jnp.array([[1.0, 2.0], [-1.0, 1.0]]), jnp.array([[1.0, -1.0], [2.0, 0.5]])]
      >>> apply = lambda params, x: jax.nn.relu(x @ params[0]) @ params[1]
      >>> batch = jnp.array([[1.0, 2.0], [2.0, -1.0]]), jnp.array([0, 1])
      >>> pruned = wj.foresight.prune(wj.foresight.methods.px(apply), params, [batch], density=0.5, rounds=3)
      >>> print(pruned.params[0])
      [[0. 2.]
       [0. 1.]]
      >>> print(pruned.params[1])
      [[1. 0.]
       [2. 0.]]

    References:
      Tanaka et al., `Pruning neural networks without any data by iteratively conserving synaptic flow
      <https://arxiv.org/abs/2006.05467>`_, 2020; Iurada et al., `Finding Lottery Tickets in Vision Models via
      Data-driven Spectral Foresight Pruning <https://arxiv.org/abs/2406.01820>`_, 2024
    """
    check_choice("scope", scope, ("global", "leaf"))
    check_choice("threshold", threshold, ("exact", "reference"))
    check_choice("regrow", regrow, ("as_scored", "never", None))
    if threshold == "reference" and scope == "leaf":
        raise ValueError("threshold='reference' is a rule for scope='global'.")
    method = as_method(score)
    check_pruning_batches(batches)
    times = (1 if schedule == "one_shot" else method.rounds) if rounds is None else rounds
    falling = densities(schedule, density, times)

    whole = jax.tree.map(lambda _: never_pruned(), params)
    like = jax.eval_shape(method.score, params, whole, batches, key)
    names, sizes = ranked_names(like), [x.size for x in ranked(like)]
    if not sizes:
        raise ValueError(
            f"The method {method.name!r} ranks no leaf, so nothing can be pruned. Widen prunable=, or name kernels so "
            "that they are not taken for biases or scales."
        )
    check_total(sizes)
    sets = [sum(sizes)] if scope == "global" else sizes
    counts = kept_counts(falling, sets)
    if threshold == "reference":
        counts = np.asarray([[int((1 - float(d)) * n) for n in sets] for d in falling], np.int32)
    masks = place([jnp.ones(x.shape, bool) for x in ranked(like)], like)
    step = _round(method, scope, regrow or method.regrow, threshold)
    history = []
    for index, kept in enumerate(counts):
        own = None if key is None else jax.random.fold_in(key, index)
        masks, *told = step(params, masks, batches, own, jnp.asarray(kept))
        history.append(told)
    kept, finite = (np.asarray(rows) for rows in zip(*jax.device_get(history), strict=True))
    _raise_if_not_finite(method, names, finite)
    if threshold == "reference":
        _raise_if_tied(int(kept[-1].sum()), falling[-1], sets[0])
    return Pruned(
        apply_masks(params, masks), masks, tuple(falling), kept, tuple(names), tuple(sizes)
    )


@functools.lru_cache(maxsize=16)  # one program for all densities and seeds of a method
def _round(method: Method, scope: Scope, regrow: Regrow, threshold: Threshold) -> Callable:
    # two programs and not one: XLA:CPU takes minutes to compile a deep network together with the selection
    score = jax.jit(method.score)

    @jax.jit
    def select(scores, masks, kept):
        before, found = ranked(masks), ranked(scores)
        finite = jnp.stack([all_finite(s) for s in found])
        if regrow == "never":
            lowest = [jnp.asarray(-jnp.inf, s.dtype) for s in found]
            found = [jnp.where(m, s, low) for m, s, low in zip(before, found, lowest, strict=True)]
        if threshold == "reference":
            # strictly above the k-th smallest is strictly above the (n - k + 1)-th largest
            rank = sum(s.size for s in found) + 1 - kept[0]
            strict = largest(found, rank, "strict")
            after = [jnp.where(kept[0] < 1, m, s) for m, s in zip(before, strict, strict=True)]
        elif scope == "global":
            after = largest(found, kept[0])
        else:
            after = [largest([s], n)[0] for s, n in zip(found, kept, strict=True)]
        told = jnp.stack([jnp.sum(m, dtype=jnp.int32) for m in after])
        return place(after, scores), told, finite

    def step(params, masks, batches, key, kept):
        return select(score(params, masks, batches, key), masks, kept)

    return step


def _raise_if_not_finite(method: Method, names: Sequence[str], finite: np.ndarray) -> None:
    if finite.all():
        return
    index, leaf = np.argwhere(~finite)[0]
    raise ValueError(
        f"The score of {method.name!r} at {names[leaf]!r} is NaN or infinite in round {index + 1} of {len(finite)}. "
        "A score of paths is NaN where no path leads from the input to the output any more: prune less or in more "
        "rounds. Otherwise look for an overflow, or parameters that are not finite."
    )


def _raise_if_tied(kept: int, density: Fraction, size: int) -> None:
    if abs(kept - density * size) >= 5:
        raise ValueError(
            f"threshold='reference' kept {kept} of {size} entries for a density of {float(density):g}: many scores "
            "are equal at the threshold. Use threshold='exact', which cuts ties by index."
        )
