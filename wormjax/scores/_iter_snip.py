"""IterSNIP: SNIP of what is left, round by round."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float, PyTree

from wormjax._masks import apply_masks
from wormjax.scores._protocol import Rule
from wormjax.scores._snip import snip


def iter_snip(
    params: PyTree,
    batch: Any,
    *,
    loss: Callable[[PyTree, Any], Array],
    masks: PyTree | None = None,
    prunable: Rule = None,
) -> PyTree[Float[Array, "..."]]:
    r"""Score every weight that is left by the connection sensitivity of the loss.

    .. math::
        s_j = \left| m_j \theta_j \, \frac{\partial L(m \odot \theta)}{\partial (m_j \theta_j)} \right|

    It is `snip` of the masked parameters: what is pruned scores 0, so that over the rounds of
    `wj.foresight.prune` masks are nested; in SNIP itself a pruned weight may score again and return.

    Args:
      params: any pytree of arrays.
      batch: whatever ``loss`` takes.
      loss: function of (params, batch) that returns a floating-point scalar.
      masks: what is left; None for everything. Parameters that are masked already need none.
      prunable: which leaves are ranked, as for `snip`.

    Returns:
      As `snip`.

    Raises:
      ValueError: as `snip`; or the masks do not fit the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax import scores
      >>> loss = lambda params, x: jnp.mean((x @ params["kernel"]) ** 2)
      >>> params, masks = {"kernel": jnp.array([[1.0, 2.0]])}, {"kernel": jnp.array([[True, False]])}
      >>> print(scores.iter_snip(params, jnp.ones((1, 1)), loss=loss, masks=masks)["kernel"])
      [[1. 0.]]

    References:
      de Jorge et al., `Progressive Skeletonization: Trimming more fat from a network at initialization
      <https://arxiv.org/abs/2006.09081>`_, 2020; Verdenius et al., `Pruning via Iterative Ranking of Sensitivity
      Statistics <https://arxiv.org/abs/2006.00896>`_, 2020
    """
    left = params if masks is None else apply_masks(params, masks)
    return snip(left, batch, loss=loss, prunable=prunable)
