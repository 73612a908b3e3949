"""PX, exact: a weight's share in the trace of the neural tangent kernel itself, not in its bound."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from wormjax._selection import check_choice, check_scores
from wormjax.scores._batches import check_batches
from wormjax.scores._protocol import Rule, is_kernel, lay_out, masked, widened

Outputs = Literal["per_logit", "sum", "label"]


def px_exact(
    params: PyTree,
    batches: Sequence[Any],
    *,
    apply: Callable[[PyTree, Any], Array],
    outputs: Outputs = "per_logit",
    masks: PyTree | None = None,
    prunable: Rule = None,
) -> PyTree[Float[Array, "..."]]:
    r"""Score every weight by its square times the trace's share of it.

    .. math::
        s_j = \theta_j^2 \sum_{n, k} \left( \frac{\partial f_k(x_n)}{\partial \theta_j} \right)^2

    Without the factor :math:`\theta_j^2` the sum over the weights is the trace of the neural tangent kernel. It takes
    any differentiable network, and a gradient for every example and output, one example after another.

    *Deviation.* The released code's short-lived form is ``outputs="sum"``, the square of
    :math:`\partial \sum_k f_k / \partial \theta_j`, and later ``"label"``, that of the label's logit alone: empirical
    Fisher scores, which are no trace.

    Args:
      params: any pytree of arrays; only ranked leaves are differentiated.
      batches: inputs ``[N, ...]``; for ``outputs="label"`` pairs (inputs, labels).
      apply: function of (params, inputs) that returns logits ``[N, K]``.
      outputs: what is differentiated: every logit, their sum, or the label's.
      masks: what is left; None for everything. Derivatives are those of the masked network.
      prunable: which leaves are ranked: a tree of bools as `wj.prunable` returns, or a function from ``params`` to
        one. ``None`` ranks the leaves that `magnitude` ranks.

    Returns:
      The tree of ``params``; a ranked leaf is float32 (float64 for a float64 parameter) of its parameter's shape, any
      other leaf is a rank-0 ``inf``. What is masked scores 0.

    Raises:
      ValueError: there is no batch; labels are wanted and there are none; a score is NaN or Inf; a word is unknown; or
        ``masks`` or ``prunable`` do not fit.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from wormjax import scores
      >>> params = [jnp.array([[1.0, 2.0], [-1.0, 1.0]]), jnp.array([[1.0, -1.0], [2.0, 0.5]])]
      >>> apply = lambda params, x: jax.nn.relu(x @ params[0]) @ params[1]
      >>> print(scores.px_exact(params, [jnp.array([[1.0, 2.0], [2.0, -1.0]])], apply=apply)[1])
      [[  9.     9.  ]
       [100.     6.25]]

    References:
      Iurada et al., `Finding Lottery Tickets in Vision Models via Data-driven Spectral Foresight Pruning
      <https://arxiv.org/abs/2406.01820>`_, 2024
    """
    check_choice("outputs", outputs, ("per_logit", "sum", "label"))
    layout = lay_out(params, prunable, is_kernel)
    if not layout.ranked:  # an empty part of a tree: its output may not even be defined
        return layout.scores({})
    weights = {leaf.index: jnp.asarray(leaf.value) for leaf in layout.ranked}
    left = masked(layout, weights, masks)

    def wanted(w: dict[int, Array], x: PyTree, label: Array | None) -> Array:
        one = jax.tree.map(lambda a: a[None], x)
        logits = jnp.ravel(apply(layout.params(w), one))
        if outputs == "sum":
            return jnp.sum(logits)[None]
        return logits if label is None else logits[label][None]

    def squares(example: tuple[PyTree, Array | None]) -> dict[int, Array]:
        slopes = jax.jacrev(wanted)(left, *example)
        return {i: jnp.sum(jnp.square(widened(s)), axis=0) for i, s in slopes.items()}

    def add(total: dict[int, Array], example: Any) -> tuple[dict[int, Array], None]:
        return jax.tree.map(jnp.add, total, squares(example)), None

    total = {i: jnp.zeros_like(widened(w)) for i, w in weights.items()}
    for batch in check_batches(batches):
        total, _ = jax.lax.scan(add, total, _examples(batch, outputs))
    tree = layout.scores({i: jnp.square(widened(left[i])) * t for i, t in total.items()})
    check_scores(tree)
    return tree


def _examples(batch: Any, outputs: str) -> tuple[PyTree, Array | None]:
    if outputs != "label":
        return batch, None
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise ValueError("outputs='label' takes batches that are pairs (inputs, labels).")
    return batch[0], batch[1]
