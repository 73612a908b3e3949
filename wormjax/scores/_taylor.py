"""Taylor: the first-order estimate of what the loss loses with a weight."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from wormjax._selection import check_choice, check_scores
from wormjax.scores._protocol import Rule, is_kernel, lay_out, scalar_loss, widened

Form = Literal["squared", "signed"]


def taylor(
    params: PyTree,
    batch: Any,
    *,
    loss: Callable[[PyTree, Any], Array],
    form: Form = "squared",
    prunable: Rule = None,
) -> PyTree[Float[Array, "..."]]:
    r"""Score every weight by the first-order change of the loss when it is set to 0, squared.

    .. math::
        s_j = (g_j \theta_j)^2, \qquad g_j = \frac{\partial L}{\partial \theta_j}

    Summed over a unit, which is ``aggregate="sum"``, that is the paper's sum of individual contributions. Its joint
    contribution :math:`\bigl(\sum_{j \in u} g_j \theta_j\bigr)^2`, in which what one weight of a unit adds another may
    take away, ranks as ``form="signed"`` with ``aggregate="joint"`` does. Over single weights the order is that of
    `snip`, which is :math:`|g_j \theta_j|`; products below 1e-19 have the square 0 in float32, and tie.

    For several batches take the mean of the trees, as the paper does: there the square comes before the mean.

    Args:
      params: any pytree of arrays; only ranked leaves are differentiated, so integers and PRNG keys may be among
        them. A weight that is 0 scores 0.
      batch: whatever ``loss`` takes.
      loss: function of (params, batch) that returns a floating-point scalar.
      form: ``"squared"``; or ``"signed"``, the product :math:`g_j \theta_j` itself: positive where the loss falls
        when the weight shrinks a little. It is made to be summed over units and ranks no single weights.
      prunable: which leaves are ranked: a tree of bools as `wj.prunable` returns, or a function from ``params`` to
        one. ``None`` ranks the leaves that `magnitude` ranks.

    Returns:
      The tree of ``params``; a ranked leaf is float32 (float64 for a float64 parameter) of its parameter's shape, any
      other leaf is a rank-0 ``inf``. Where no leaf is ranked ``loss`` is not called.

    Raises:
      ValueError: the loss is not a scalar; a score is NaN or Inf (outside of ``jax.jit``; the message names the
        leaf); ``form`` is neither word; or ``prunable`` has another structure than ``params``.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax import scores
      >>> loss = lambda params, x: jnp.mean((x @ params["kernel"]) ** 2)
      >>> params = {"kernel": jnp.array([[1.0, 2.0]])}
      >>> scores.taylor(params, jnp.ones((1, 1)), loss=loss)
      {'kernel': Array([[ 1., 16.]], dtype=float32)}

    References:
      Molchanov et al., `Importance Estimation for Neural Network Pruning <https://arxiv.org/abs/1906.10771>`_, 2019
    """
    check_choice("form", form, ("squared", "signed"))
    layout = lay_out(params, prunable, is_kernel)
    if not layout.ranked:  # an empty part of a tree: its loss may not even be defined
        return layout.scores({})

    def objective(weights: dict[int, Array]) -> Array:
        return scalar_loss(loss(layout.params(weights), batch))

    weights = {leaf.index: jnp.asarray(leaf.value) for leaf in layout.ranked}
    gradients = jax.grad(objective)(weights)
    products = {i: widened(w) * widened(gradients[i]) for i, w in weights.items()}
    tree = layout.scores(
        {i: jnp.square(x) if form == "squared" else x for i, x in products.items()}
    )
    check_scores(tree)
    return tree
