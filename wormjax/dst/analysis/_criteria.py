"""What each of several drop criteria would remove from one state of training."""

import functools
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key, PyTree

from wormjax._counts import ratio_in_unit_interval
from wormjax._masks import check_masks, check_same_structure
from wormjax._selection import largest, place, ranked
from wormjax.dst._seen import Seen, finite
from wormjax.dst._shares import ceil_share
from wormjax.dst.analysis._overlap import removed_from
from wormjax.dst.criteria import Criterion, criterion_of
from wormjax.scores._protocol import widened


def removed_by(
    criteria: Mapping[str, str | Criterion],
    params: PyTree,
    masks: PyTree[Bool[Array, "..."]],
    gradients: PyTree,
    fraction: float | str | Fraction,
    key: Key[Array, ""],
) -> dict[str, PyTree]:
    r"""Return what each criterion drops from the same weights, masks and gradients, in every leaf.

    Of the n kept entries of a leaf :math:`\lceil p\,n \rceil` go, as in a mask update of `wj.sparse_training`, also by
    criteria that are no order of scores (SET). `removed_sets` does it for given scores.

    Args:
      criteria: for each name a criterion of `wj.dst.criteria`, or its name; those that average over steps, or need
        a Hessian, cannot be compared at one state.
      params: the parameters.
      masks: mask tree, unstructured.
      gradients: dense gradients of the loss at the masked parameters.
      fraction: p, strictly between 0 and 1.
      key: PRNG key of random criteria, folded with the leaf.

    Returns:
      For each criterion a tree in which ``True`` is dropped; a leaf that is never pruned holds the rank-0 ``False``.

    Raises:
      ValueError: trees that do not fit, an unknown criterion, one that needs more than it is shown.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> params, masks = {"w": jnp.array([3.0, -1.0, 2.0, 0.0])}, {"w": jnp.array([1, 1, 1, 0], bool)}
      >>> grads = {"w": jnp.array([0.1, 1.0, 9.0, 5.0])}
      >>> names = {"magnitude": "magnitude", "snip": "snip"}
      >>> found = removed_by(names, params, masks, grads, "0.3", jax.random.key(0))
      >>> print(found["magnitude"]["w"], found["snip"]["w"])
      [False  True False False] [ True False False False]

    References:
      Nowak et al., `Fantastic Weights and How to Find Them <https://arxiv.org/abs/2306.12230>`_, 2023
    """
    p = jnp.float32(float(ratio_in_unit_interval("fraction", fraction)))
    check_masks(params, masks)
    check_same_structure(params, gradients, "params", "gradients")
    chosen = {name: criterion_of(c) for name, c in criteria.items()}
    flags = jax.tree.leaves(masks)

    def of_ranked(tree: PyTree) -> list[Any]:
        pairs = zip(flags, jax.tree.leaves(tree), strict=True)
        return [jnp.asarray(x) for m, x in pairs if m.ndim]

    kept = _stay(
        tuple(chosen.values()), of_ranked(params), ranked(masks), of_ranked(gradients), p, key
    )
    return {
        name: removed_from(masks, place(stay, masks))
        for name, stay in zip(chosen, kept, strict=True)
    }


def _choose(scores: Sequence[Array], kept: Array) -> list[Array]:
    return largest(scores, kept)


@functools.partial(jax.jit, static_argnums=0)
def _stay(
    criteria: tuple[Criterion, ...],
    params: list[Array],
    masks: list[Array],
    gradients: list[Array],
    p: Array,
    key: Array,
) -> list[list[Array]]:
    """For each criterion the masks of what stays."""
    found: list[list[Array]] = [[] for _ in criteria]
    for leaf, (w, m, g) in enumerate(zip(params, masks, gradients, strict=True)):
        mask = jnp.broadcast_to(m, w.shape)
        weight = jnp.where(mask, widened(w), jnp.zeros((), widened(w).dtype))
        count = jnp.sum(mask, dtype=jnp.int32)
        going = ceil_share(p, count)
        for place_, criterion in enumerate(criteria):
            own = jax.random.fold_in(jax.random.fold_in(key, leaf), place_)
            score = finite(criterion(Seen(weight, mask, widened(g), key=own)))
            found[place_] += criterion.keep([score], [mask], count - going, going, _choose)
    return found
