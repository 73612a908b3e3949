"""Densities that a selection gives: global magnitude, SNIP, GraSP, SynFlow, or masks that are there."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from wormjax._counts import as_density
from wormjax._masks import check_masks, check_same_structure
from wormjax._paths import leaf_names
from wormjax._selection import check_scores, largest
from wormjax.dst.distributions._layers import Count, Distribution, Layer, layers_of
from wormjax.dst.distributions._proportional import Proportional


def of_scores(scores: PyTree | Callable[[PyTree], PyTree]) -> Distribution:
    r"""Give every layer the density that a global selection by scores leaves it.

    Of all prunable entries the ``round(d N)`` with the highest scores are chosen, ties by index, but at least the
    best of every leaf; a layer keeps as many entries as were chosen in it. Which ones were is forgotten:
    positions are drawn at random. With the scores of `wj.scores.snip` or `wj.scores.synflow` these are the
    SNIP and SynFlow densities of the literature; the score of GraSP is :math:`w \odot Hg`, of which the
    highest stay.

    Args:
      scores: score tree of the parameters, or a function from parameters to one. Fantastic Weights' code scores
        a freshly re-initialised copy of the network, on one batch.

    Returns:
      A distribution. Its counts are Python integers, and int32 scalars where scores are being traced
      (``jax.jit(tx.init)``).

    Raises:
      ValueError: a prunable leaf has no score of its shape; a score is not finite; there are fewer entries to keep
        than leaves (when called).

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"a": jnp.array([3.0, 1.0, 2.0]), "b": jnp.array([0.5, 0.1, 9.0])}
      >>> of_scores(params)(params, {"a": True, "b": True}, Fraction(1, 2))
      (2, 1)

    References:
      Lee et al., `SNIP <https://arxiv.org/abs/1810.02340>`_, 2019; Tanaka et al., `Pruning neural networks
      without any data <https://arxiv.org/abs/2006.05467>`_, 2020; Wang et al., `Picking Winning Tickets Before
      Training by Preserving Gradient Flow <https://arxiv.org/abs/2002.07376>`_, 2020
    """

    def distribution(params: PyTree, may: PyTree, density: Fraction) -> tuple[Count, ...]:
        d = as_density("density", density)
        layers = layers_of(params, may)
        tree = scores(params) if callable(scores) else scores
        check_same_structure(params, tree, "params", "scores")
        ranked = _ranked(tree, layers, may)
        kept = round(d * sum(layer.size for layer in layers))
        if kept < len(layers):
            raise ValueError(
                f"density {float(d):g} keeps {kept} entries for {len(layers)} prunable leaves, and each must keep "
                "at least one. Raise the density, or leave small leaves out."
            )
        counts = _counts_of_selection(ranked, kept)
        traced = any(isinstance(c, jax.core.Tracer) for c in counts)
        return tuple(counts) if traced else tuple(int(c) for c in jax.device_get(counts))

    return distribution


def global_magnitude() -> Distribution:
    """Give every layer as many entries as it has among the largest weights of the network.

    The densities that `of_scores` gives for the absolute values of the parameters as they are.

    Returns:
      A distribution.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"a": jnp.array([-3.0, 1.0, 2.0]), "b": jnp.array([0.5, 0.1, -9.0])}
      >>> global_magnitude()(params, {"a": True, "b": True}, Fraction(1, 2))
      (2, 1)
    """
    return of_scores(lambda params: jax.tree.map(jnp.abs, params))


def of_masks(masks: PyTree) -> Distribution:
    """Give every layer the density that masks have in it.

    Where the density asked for is that of the masks, the counts are theirs. Where it is another, layer
    densities stand in the proportions of the masks' (none above 1), rounded as in `erk`.

    Args:
      masks: mask tree of the parameters, concrete; a leaf that it never prunes counts as dense.

    Returns:
      A distribution.

    Raises:
      TypeError: the masks are being traced.
      ValueError: masks do not fit the parameters, or keep nothing of a prunable leaf (when called).

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"a": jnp.ones(4), "b": jnp.ones(8)}
      >>> masks = {"a": jnp.array([1, 1, 1, 0], bool), "b": jnp.array([1] * 3 + [0] * 5, bool)}
      >>> rule, may = of_masks(masks), {"a": True, "b": True}
      >>> rule(params, may, Fraction(1, 2)), rule(params, may, Fraction(1, 4))
      ((3, 3), (2, 1))
    """

    def distribution(params: PyTree, may: PyTree, density: Fraction) -> tuple[Count, ...]:
        check_masks(params, masks)
        raw: dict[str, Fraction] = {}
        for name, mask in zip(leaf_names(params), jax.tree.leaves(masks), strict=True):
            if isinstance(mask, jax.core.Tracer):
                raise TypeError(
                    f"The mask at {name!r} is being traced, and densities are decided while tracing. Close over "
                    "masks that were computed before."
                )
            raw[name] = Fraction(int(np.count_nonzero(mask)), mask.size)
        for layer in layers_of(params, may):
            if raw[layer.name] == 0:
                raise ValueError(
                    f"The mask at {layer.name!r} keeps nothing, and every prunable leaf must keep at least one entry."
                )
        rule = Proportional(lambda layer: raw[layer.name], {}, True, (), "total")
        return rule(params, may, density)

    return distribution


def _ranked(scores: PyTree, layers: list[Layer], may: PyTree) -> list[Array]:
    """Return the scores of the prunable leaves; raise where one has not the shape of its leaf."""
    leaves = jax.tree.leaves(scores)
    chosen = [x for x, wanted in zip(leaves, jax.tree.leaves(may), strict=True) if wanted]
    for layer, x in zip(layers, chosen, strict=True):
        if jnp.shape(x) != layer.shape:
            raise ValueError(
                f"The score at {layer.name!r} has shape {jnp.shape(x)} and its prunable leaf {layer.shape}. Score "
                "every entry of it, or leave it out of the prunable leaves."
            )
    check_scores({layer.name: x for layer, x in zip(layers, chosen, strict=True)})
    return chosen


@jax.jit
def _counts_of_selection(scores: list[Array], kept: Any) -> list[Array]:
    # the best entry of each leaf is chosen first, as infinitely good: that keeps the total exact
    forced = [jnp.where(largest([x], 1)[0], jnp.asarray(jnp.inf, x.dtype), x) for x in scores]
    return [jnp.sum(mask, dtype=jnp.int32) for mask in largest(forced, kept)]
