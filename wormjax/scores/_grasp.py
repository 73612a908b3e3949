"""GraSP: keep the weights without which the gradient would lose its norm."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from wormjax._selection import check_scores
from wormjax.scores._protocol import Rule, is_kernel, lay_out, masked, scalar_loss, widened


def grasp(
    params: PyTree,
    batches: Sequence[tuple[Any, Any]],
    *,
    apply: Callable[[PyTree, Any], Any],
    loss: Callable[[Any, Any], Array] | None = None,
    temperature: float = 200.0,
    masks: PyTree | None = None,
    prunable: Rule = None,
) -> PyTree[Float[Array, "..."]]:
    r"""Score every weight by what it adds to the gradient flow, the squared norm of the gradient.

    .. math::
        s_j = \theta_j \, (H g)_j, \qquad
        g = \sum_b \nabla L_b, \quad H = \sum_b \nabla^2 L_b

    The logits are divided by a temperature before the loss. A score may be negative: without such a weight the
    gradient grows, and it goes first. What is masked scores exactly 0, more than those: over several rounds ask for
    ``regrow="never"`` (`wj.foresight.prune` does), or pruned weights come back.

    *Deviations.* The paper removes the largest :math:`-\theta H g`, which is the same order. It divides by the sum of
    all scores; we do not (see `snip`). Its code runs twice through a shuffled loader, so that the gradient and the
    Hessian see other batches; here both are of the same ones, and H g is one forward derivative of the gradient.

    Args:
      params: any pytree of arrays; only ranked leaves are differentiated.
      batches: pairs (inputs, labels); their losses are added.
      apply: function of (params, inputs) that returns logits; dropout off, normalisation the same in every call.
      loss: function of (logits, labels) that returns a scalar and can be differentiated twice. None takes the mean
        cross-entropy of integer labels.
      temperature: what logits are divided by.
      masks: what is left; None for everything.
      prunable: which leaves are ranked: a tree of bools as `wj.prunable` returns, or a function from ``params`` to
        one. ``None`` ranks the leaves that `magnitude` ranks.

    Returns:
      The tree of ``params``; a ranked leaf is float32 (float64 for a float64 parameter) of its parameter's shape, any
      other leaf is a rank-0 ``inf``.

    Raises:
      ValueError: there is no batch; the temperature is not positive; the loss is not a scalar; a score is NaN or Inf;
        or ``masks`` or ``prunable`` do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax import scores
      >>> apply = lambda params, x: x @ params["kernel"]
      >>> batch = jnp.ones((1, 1)), jnp.zeros((1, 2))
      >>> square = lambda outputs, labels: 0.5 * jnp.sum((outputs - labels) ** 2)
      >>> params = {"kernel": jnp.array([[1.0, 2.0]])}
      >>> print(scores.grasp(params, [batch], apply=apply, loss=square, temperature=1.0)["kernel"])
      [[1. 4.]]

    References:
      Wang et al., `Picking Winning Tickets Before Training by Preserving Gradient Flow
      <https://arxiv.org/abs/2002.07376>`_, 2020
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}. Logits are divided by a positive number.")
    if not len(batches):
        raise ValueError("There is no batch to take the gradient of. Pass pairs (inputs, labels).")
    layout = lay_out(params, prunable, is_kernel)
    if not layout.ranked:  # an empty part of a tree: its output may not even be defined
        return layout.scores({})
    criterion = cross_entropy if loss is None else loss

    def objective(weights: dict[int, Array]) -> Array:
        left, total = masked(layout, weights, masks), None
        for inputs, labels in batches:
            logits = apply(layout.params(left), inputs)
            cooled = jax.tree.map(lambda x: x / jnp.asarray(temperature, x.dtype), logits)
            value = scalar_loss(criterion(cooled, labels))
            total = value if total is None else total + value
        return total  # type: ignore[return-value]

    weights = {leaf.index: jnp.asarray(leaf.value) for leaf in layout.ranked}
    gradient = jax.grad(objective)
    _, product = jax.jvp(gradient, (weights,), (gradient(weights),))
    tree = layout.scores({i: widened(w) * widened(product[i]) for i, w in weights.items()})
    check_scores(tree)
    return tree


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Return the mean cross-entropy of integer labels ``[N]`` under logits ``[N, K]``."""
    at = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return -jnp.mean(at)
