"""The control of layer pruning: as many filters less, taken from inside all blocks."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from wormjax._masks import never_pruned
from wormjax.scores import check
from wormjax.structure._groups import Group, Groups
from wormjax.structure._plan import plan
from wormjax.structure._planned import Plan
from wormjax.structure._streams import streams


def matched_filters(groups: Groups, scores: PyTree, remove: int, key: Key[Array, ""]) -> Plan:
    r"""Plan to remove a given number of filters from inside the residual blocks.

    Every layer inside a block loses the same share, :math:`\lfloor r \, n_l / n \rfloor` of its filters, and the
    remainder goes one by one from layers drawn at random, so that the number is exact and every layer keeps a filter.
    A filter's score is the sum over its weights; the lowest go. Filters on a residual stream stay, as in the paper's
    control: of a basic block only the first convolution loses any.

    Args:
      groups: from `wormjax.find_groups`.
      scores: score tree of the parameters.
      remove: how many filters, such as those of the blocks of a layer ticket.
      key: a typed key for the remainder.

    Returns:
      A `wormjax.Plan` for `wormjax.shrink`.

    Raises:
      ValueError: so many cannot go, or there is nothing inside blocks; a layer's kernel has no scores.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import wormjax as wj
      >>> params = {k: {"up": jnp.arange(8.0)[None], "down": jnp.ones((8, 1))} for k in "ab"}
      >>> def apply(params, x):
      ...     for p in params.values():
      ...         x = x + jnp.tanh(x @ p["up"]) @ p["down"]
      ...     return x
      >>> groups = wj.find_groups(apply, params, jnp.ones((1, 1)))
      >>> plan = wj.layers.matched_filters(groups, wj.scores.magnitude(params), 5, jax.random.key(0))
      >>> sum(plan.widths.values())
      11

    References:
      Jordao et al., `When Layers Play the Lottery, all Tickets Win at Initialization
      <https://arxiv.org/abs/2301.10835>`_, 2023
    """
    check(scores, groups.shapes)
    on_stream = streams(groups.traced)
    found = {
        group: kernel
        for group in groups
        if group.atom not in on_stream and (kernel := _kernel(groups, group)) is not None
    }
    sizes = [group.size for group in found]
    if not found or remove < 0 or remove > sum(sizes) - len(sizes):
        most = sum(sizes) - len(sizes)
        raise ValueError(
            f"{remove} filters cannot be removed: inside the blocks {len(sizes)} layers have {sum(sizes)} filters, and "
            f"{most} of them can go when each keeps one."
        )
    leaves = [np.asarray(x, np.float64) for x in jax.tree.leaves(scores)]
    masks = [never_pruned()] * len(leaves)
    for (group, leaf), count in zip(found.items(), _shares(sizes, remove, key), strict=True):
        score = leaves[leaf]
        if score.ndim == 0 or score.shape[-1] != group.size:
            raise ValueError(
                f"The scores say nothing of the filters of {groups.traced.names[leaf]!r}. Score the kernels."
            )
        by_filter = score.reshape(-1, group.size).sum(axis=0)
        kept = np.ones(group.size, bool)
        kept[np.argsort(by_filter, kind="stable")[:count]] = False
        masks[leaf] = jnp.asarray(kept.reshape([1] * (score.ndim - 1) + [-1]))
    tree = jax.tree.unflatten(jax.tree.structure(groups.shapes), masks)
    if not remove:
        return Plan(groups, {group.name: np.ones(group.size, bool) for group in groups})
    return plan(groups, masks=tree)


def _kernel(groups: Groups, group: Group) -> int | None:
    """The parameter whose filters a group's units are: it has them on its last axis."""
    for place in group.slices:
        axes = groups.traced.params[place.leaf]
        is_last = len(axes) >= 2 and place.axis == len(axes) - 1
        if is_last and groups.traced.dims.find(axes[place.axis]) is group.atom:
            return place.leaf
    return None


def _shares(sizes: list[int], remove: int, key: Key[Array, ""]) -> list[int]:
    """How many filters each layer loses."""
    counts = [remove * size // sum(sizes) for size in sizes]
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    for _ in range(remove - sum(counts)):
        counts[rng.choice([k for k, size in enumerate(sizes) if counts[k] < size - 1])] += 1
    return counts
