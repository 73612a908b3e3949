"""Scores of whole blocks, from scores of their weights."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from wormjax._selection import check_choice, check_scores
from wormjax.layers._candidates import Candidate, Candidates
from wormjax.scores import check
from wormjax.scores._protocol import Rule, is_kernel, lay_out, scalar_loss, widened

BlockScores = Mapping[str, float]  # the name of a candidate and its score; higher is more important
Aggregate = Literal["sum", "mean"]


def score(found: Candidates, scores: PyTree, aggregate: Aggregate = "sum") -> dict[str, float]:
    r"""Turn scores of weights into one score a block.

    .. math::
        s_{block} = \sum_{j \in block} s_j \qquad \text{or} \qquad \frac{1}{n} \sum_{j \in block} s_j

    over the n ranked entries of all parameters that only the block reads: of SNIP or GraSP all its kernels together.
    The paper does not say how weights become blocks. ``"sum"`` is the block's share of the whole, and favours stages
    with large kernels (16 times as many weights in the last as in the first of a CIFAR ResNet); ``"mean"`` does not.

    Args:
      found: from `candidates`.
      scores: score tree of the parameters, such as that of `wormjax.scores.snip` or `wormjax.scores.grasp`.
      aggregate: ``"sum"`` or ``"mean"``.

    Returns:
      For each candidate its score, in the order of ``found``.

    Raises:
      ValueError: the scores do not fit the parameters; a block has no ranked leaf; NaN or infinity in a ranked leaf.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from wormjax import layers, scores
      >>> params = {"a": jnp.full((1, 1), 2.0), "b": jnp.full((1, 1), -3.0)}
      >>> def apply(params, x):
      ...     x = x + jnp.tanh(x @ params["a"])
      ...     return x + jnp.tanh(x @ params["b"])
      >>> found = layers.candidates(apply, params, jnp.ones((1, 1)))
      >>> layers.score(found, scores.magnitude(params))
      {'a': 2.0, 'b': 3.0}

    References:
      Jordao et al., `When Layers Play the Lottery, all Tickets Win at Initialization
      <https://arxiv.org/abs/2301.10835>`_, 2023
    """
    check_choice("aggregate", aggregate, ("sum", "mean"))
    check(scores, found.shapes)
    leaves = dict(zip(found.program.names, jax.tree.leaves(scores), strict=True))
    full = {n: v.shape for n, v in zip(found.program.names, found.program.params, strict=True)}
    host = {n: np.asarray(x, np.float64) for n, x in leaves.items() if jnp.ndim(x)}
    result = {}
    for candidate in found:
        parts = [
            _rows(np.broadcast_to(host[path], full[path]), candidate)
            for path in candidate.paths
            if path in host
        ]
        count = sum(part.size for part in parts)
        if not count:
            raise ValueError(
                f"The scores rank no parameter of the block {candidate.name!r}, which reads {candidate.paths}. Score "
                "its kernels, or leave the block out."
            )
        total = float(sum(part.sum() for part in parts))
        result[candidate.name] = total / count if aggregate == "mean" else total
    return result


def l1(found: Candidates, params: PyTree) -> dict[str, float]:
    r"""Score every block by the mean L1 norm of its filters, added up over its kernels.

    .. math:: s_{block} = \sum_{kernels} \frac{1}{C_{out}} \sum_j |\theta_j|

    Its scale depends on the fan-in, so early stages of a network lose first; the paper rejects it for that, and it is
    here as a control.

    Args:
      found: from `candidates`.
      params: the parameters; a kernel's last axis is that of its filters.

    Returns:
      For each candidate its score.
    """
    leaves = dict(zip(found.program.names, jax.tree.leaves(params), strict=True))
    result = {}
    for candidate in found:
        kernels = [
            _rows(np.asarray(leaves[path], np.float64), candidate)
            for path in candidate.paths
            if is_kernel(path, leaves[path])
        ]
        result[candidate.name] = float(sum(np.abs(k).sum() / k.shape[-1] for k in kernels))
    return result


def random(found: Candidates, key: Key[Array, ""]) -> dict[str, float]:
    """Score every block by a uniform random number.

    Args:
      found: from `candidates`.
      key: a typed key; the scores are a function of it alone.

    Returns:
      For each candidate its score, in [0, 1).
    """
    drawn = np.asarray(jax.random.uniform(key, (len(found),)), np.float64)
    return dict(zip(found.names, drawn.tolist(), strict=True))


def signed_snip(
    params: PyTree,
    batch: Any,
    *,
    loss: Callable[[PyTree, Any], Array],
    prunable: Rule = None,
) -> PyTree[Float[Array, "..."]]:
    r"""Score every weight by the first-order change of the loss, with its sign.

    .. math:: s_j = \theta_j \frac{\partial L}{\partial \theta_j}

    The layer-ticket paper describes GraSP in these words, as a relative of SNIP that respects the sign of the weight;
    the published GraSP (`wormjax.scores.grasp`) has a Hessian in it.

    Args:
      params: any pytree of arrays; only ranked leaves are differentiated.
      batch: whatever ``loss`` takes.
      loss: function of (params, batch) that returns a floating-point scalar.
      prunable: which leaves are ranked; None ranks those that `wormjax.scores.magnitude` ranks.

    Returns:
      A score tree of ``params``.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax import layers
      >>> loss = lambda params, x: jnp.sum(params["kernel"] * x)
      >>> print(layers.signed_snip({"kernel": jnp.array([[1.0, -2.0]])}, 1.0, loss=loss)["kernel"])
      [[ 1. -2.]]
    """
    layout = lay_out(params, prunable, is_kernel)
    if not layout.ranked:
        return layout.scores({})
    weights = {leaf.index: jnp.asarray(leaf.value) for leaf in layout.ranked}
    gradients = jax.grad(lambda w: scalar_loss(loss(layout.params(w), batch)))(weights)
    tree = layout.scores({i: widened(w) * widened(gradients[i]) for i, w in weights.items()})
    check_scores(tree)
    return tree


def _rows(array: np.ndarray, candidate: Candidate) -> np.ndarray:
    """What of a parameter belongs to a block: all of it, or one row of stacked layers."""
    return array if candidate.step is None else array[candidate.step]
