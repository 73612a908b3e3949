"""Prune once: so many of the weights go, now."""

import numbers
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from jaxtyping import PyTree

from wormjax._masks import apply_masks
from wormjax._selection import Scope, top_masks
from wormjax.dst._kernels import kernels
from wormjax.scores import check, magnitude


class OneShot(NamedTuple):
    """What `one_shot` returns: the parameters with pruned entries exactly zero, and the masks."""

    params: PyTree
    masks: PyTree


def one_shot(
    params: PyTree,
    scores: PyTree | Callable[[PyTree], PyTree] | None = None,
    density: float | int | str | Fraction = 0.5,
    *,
    scope: Scope = "global",
) -> OneShot:
    r"""Keep the fraction ``density`` of the weights with the highest scores, exactly.

    Of N scored entries :math:`\lfloor d\,N \rfloor` stay, ties by index; see `wj.top_masks`. Continue to train with
    the masks inside the loss (`wj.apply_masks`), or keep them in force with `wj.sparse_training`.

    Args:
      params: any pytree of arrays, sharded or not.
      scores: score tree of the parameters (`wj.scores`), or a function from parameters to one. None takes the absolute
        values of all kernels (`wj.dst.kernels`): no bias, no normalisation scale, no embedding.
      density: fraction of the scored entries to keep, in (0, 1].
      scope: ``"global"`` ranks all entries together, ``"leaf"`` each leaf by itself.

    Returns:
      `OneShot` with ``params`` and ``masks``.

    Raises:
      TypeError: a number or a name where the scores go.
      ValueError: a density out of range; scores that do not fit, or are not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> import wormjax as wj
      >>> params = {"kernel": jnp.array([[3.0, -1.0], [0.5, 2.0]]), "bias": jnp.ones(2)}
      >>> pruned, masks = wj.one_shot(params, density=0.5)
      >>> print(pruned["kernel"])
      [[3. 0.]
       [0. 2.]]
    """
    if isinstance(scores, str | numbers.Number):
        raise TypeError(
            f"scores is {scores!r}, and scores are a tree of arrays or a function from parameters to one, such as "
            "wormjax.scores.magnitude. The density is an argument by name: wormjax.one_shot(params, density=0.1)."
        )
    tree = _kernel_magnitude if scores is None else scores
    if callable(tree):
        tree = tree(params)
    check(tree, params)
    masks = top_masks(tree, density=density, scope=scope)
    return OneShot(apply_masks(params, masks), masks)


def _kernel_magnitude(params: PyTree) -> PyTree:
    return magnitude(params, prunable=kernels)
