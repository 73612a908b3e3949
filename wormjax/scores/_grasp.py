"""GraSP: keep the weights without which the gradient would lose its norm."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from wormjax._selection import check_scores
from wormjax.scores._protocol import Rule, is_kernel, lay_out, scalar_loss, widened


def grasp(
    params: PyTree,
    batches: Sequence[tuple[Any, Any]],
    *,
    apply: Callable[[PyTree, Any], Any],
    loss: Callable[[Any, Any], Array],
    temperature: float = 200.0,
    prunable: Rule = None,
) -> PyTree[Float[Array, "..."]]:
    r"""Score every weight by what it adds to the squared norm of the gradient.

    .. math::
        s_j = \theta_j \, (H g)_j, \qquad g = \nabla L, \quad H = \nabla^2 L, \quad L = \sum_b L_b

    Keep the largest: without a weight of negative score the gradient grows. The product is one forward derivative of
    the gradient, on the same batches; the paper's code runs through a shuffled loader twice, and so its Hessian sees
    other batches than its gradient. We do not divide by the sum, which changes no order.

    Args:
      params: any pytree of arrays; only ranked leaves are differentiated.
      batches: pairs (inputs, labels); their losses are added.
      apply: function of (params, inputs) that returns logits; dropout off, normalisation the same in every call.
      loss: function of (logits, labels) that returns a scalar and can be differentiated twice.
      temperature: what logits are divided by.
      prunable: which leaves are ranked: a tree of bools as `wj.prunable` returns, or a function from ``params`` to
        one. ``None`` ranks the leaves that `magnitude` ranks.

    Returns:
      The tree of ``params``; a ranked leaf is float32 (float64 for a float64 parameter) of its parameter's shape, any
      other leaf is a rank-0 ``inf``.

    Raises:
      ValueError: the temperature is not positive; there is no batch; the loss is not a scalar; a score is NaN or Inf.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax import scores
      >>> batch = jnp.ones((1, 1)), jnp.zeros((1, 2))
      >>> square = lambda outputs, labels: 0.5 * jnp.sum((outputs - labels) ** 2)
      >>> apply = lambda params, x: x @ params["kernel"]
      >>> params = {"kernel": jnp.array([[1.0, 2.0]])}
      >>> print(scores.grasp(params, [batch], apply=apply, loss=square, temperature=1.0)["kernel"])
      [[1. 4.]]

    References:
      Wang et al., `Picking Winning Tickets Before Training by Preserving Gradient Flow
      <https://arxiv.org/abs/2002.07376>`_, 2020
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}. Logits are divided by a positive number.")
    if not batches:
        raise ValueError("There is no batch to take the gradient of. Pass pairs (inputs, labels).")
    layout = lay_out(params, prunable, is_kernel)
    if not layout.ranked:
        return layout.scores({})

    def objective(weights: dict[int, Array]) -> Array:
        losses = []
        for inputs, labels in batches:
            logits = apply(layout.params(weights), inputs)
            cooled = jax.tree.map(lambda x: x / jnp.asarray(temperature, x.dtype), logits)
            losses.append(scalar_loss(loss(cooled, labels)))
        return jnp.sum(jnp.stack(losses))

    weights = {leaf.index: jnp.asarray(leaf.value) for leaf in layout.ranked}
    gradient = jax.grad(objective)
    _, product = jax.jvp(gradient, (weights,), (gradient(weights),))
    tree = layout.scores({i: widened(w) * widened(product[i]) for i, w in weights.items()})
    check_scores(tree)
    return tree
