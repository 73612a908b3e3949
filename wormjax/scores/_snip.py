"""SNIP: how much the loss would change if a weight were masked."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from wormjax._selection import check_scores
from wormjax.scores._protocol import Rule, is_kernel, lay_out, masked, scalar_loss, sensitivity


def snip(
    params: PyTree,
    batch: Any,
    *,
    loss: Callable[[PyTree, Any], Array],
    masks: PyTree | None = None,
    prunable: Rule = None,
) -> PyTree[Float[Array, "..."]]:
    r"""Score every weight by the connection sensitivity of the loss.

    .. math::
        s_j = \left| \frac{\partial L(m \odot \theta)}{\partial m_j} \right|
            = \left| \theta_j \frac{\partial L}{\partial (m_j \theta_j)} \right|

    The paper divides by :math:`\sum_j s_j`. We do not: it changes no order, and over a part of a
    tree it would divide by another number than over the whole. So scores are in units of the loss.
    For several batches let ``loss`` sum over them: the absolute value comes after the sum.

    Args:
      params: any pytree of arrays; only ranked leaves are differentiated, so integers and PRNG keys
        may be among them. A weight that is 0 scores 0.
      batch: whatever ``loss`` takes.
      loss: function of (params, batch) that returns a floating-point scalar.
      masks: the mask at which the derivative is taken; None for all ones. What it prunes still has a score, that
        of being restored (see `iter_snip` for the other reading).
      prunable: which leaves are ranked: a tree of bools as `wj.prunable` returns, or a function
        from ``params`` to one. ``None`` ranks the leaves that `magnitude` ranks.

    Returns:
      The tree of ``params``; a ranked leaf is float32 (float64 for a float64
      parameter) of its parameter's shape, any other leaf is a
      rank-0 ``inf``. Where no leaf is ranked ``loss`` is not called.

    Raises:
      ValueError: the loss is not a scalar; a score is NaN or Inf (outside of ``jax.jit``; the
        message names the leaf); or ``prunable`` has another structure than ``params``.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax import scores
      >>> loss = lambda params, x: jnp.mean((x @ params["kernel"]) ** 2)
      >>> scores.snip({"kernel": jnp.array([[1.0, 2.0]])}, jnp.ones((1, 1)), loss=loss)
      {'kernel': Array([[1., 4.]], dtype=float32)}

    References:
      Lee et al., `SNIP: Single-shot Network Pruning based on Connection Sensitivity
      <https://arxiv.org/abs/1810.02340>`_, 2019
    """
    layout = lay_out(params, prunable, is_kernel)
    if not layout.ranked:  # an empty part of a tree: its loss may not even be defined
        return layout.scores({})

    def objective(weights: dict[int, Array]) -> Array:
        return scalar_loss(loss(layout.params(weights), batch))

    weights = {leaf.index: jnp.asarray(leaf.value) for leaf in layout.ranked}
    gradients = jax.grad(objective)(masked(layout, weights, masks))
    tree = layout.scores({i: sensitivity(w, gradients[i]) for i, w in weights.items()})
    check_scores(tree)
    return tree
