"""Diagonal Hessian: the second-order estimate of what the loss loses with a weight."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wormjax._selection import check_scores
from wormjax.scores._protocol import Rule, is_kernel, lay_out, scalar_loss, widened


def diagonal_hessian(
    params: PyTree,
    batch: Any,
    key: PRNGKeyArray,
    *,
    loss: Callable[[PyTree, Any], Array],
    probes: int = 8,
    prunable: Rule = None,
) -> PyTree[Float[Array, "..."]]:
    r"""Score every weight by the second-order change of the loss when it is set to 0, as Optimal Brain Damage does.

    .. math::
        s_j = \tfrac12 h_{jj} \theta_j^2, \qquad
        h_{jj} \approx \frac1P \sum_{p=1}^{P} z^{(p)}_j \bigl(H z^{(p)}\bigr)_j, \quad z^{(p)} \in \{-1, 1\}^n

    The diagonal of the Hessian H of the loss is estimated by Hutchinson's method: each probe z costs one
    Hessian-vector product, about two gradients. The estimate is unbiased, exact where H is diagonal, and has the
    variance :math:`\frac1P \sum_{k \ne j} h_{jk}^2`.

    *Deviation.* The paper takes the Gauss-Newton part of the diagonal, which is never negative and needs to know where
    the network ends and the loss begins. This is the Hessian of whatever ``loss`` is; away from a minimum a weight may
    score below 0: the loss is expected to fall without it, and it goes first. Like the paper it leaves out the
    gradient (see `taylor`) and what several weights do together.

    Args:
      params: any pytree of arrays; only ranked leaves are differentiated, so integers and PRNG keys may be among
        them. A weight that is 0 scores 0.
      batch: whatever ``loss`` takes.
      key: PRNG key; folded with the number of the probe and the leaf's place in flatten order.
      loss: function of (params, batch) that returns a floating-point scalar and can be differentiated twice.
      probes: P, the number of probes.
      prunable: which leaves are ranked: a tree of bools as `wj.prunable` returns, or a function from ``params`` to
        one. ``None`` ranks the leaves that `magnitude` ranks.

    Returns:
      The tree of ``params``; a ranked leaf is float32 (float64 for a float64 parameter) of its parameter's shape, any
      other leaf is a rank-0 ``inf``. Where no leaf is ranked ``loss`` is not called. A part of a tree has the
      probes of the whole, without the noise that hidden leaves add.

    Raises:
      ValueError: the loss is not a scalar; fewer than one probe; a score is NaN or Inf (outside of ``jax.jit``; the
        message names the leaf); or ``prunable`` has another structure than ``params``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from wormjax import scores
      >>> loss = lambda params, x: jnp.mean((x @ params["kernel"]) ** 2)
      >>> params = {"kernel": jnp.array([[1.0, 2.0]])}
      >>> scores.diagonal_hessian(params, jnp.ones((1, 1)), jax.random.key(0), loss=loss)
      {'kernel': Array([[0.5, 2. ]], dtype=float32)}

    References:
      LeCun et al., `Optimal Brain Damage
      <https://proceedings.neurips.cc/paper/1989/hash/6c9882bbac1c7093bd25041881277658-Abstract.html>`_, 1989;
      Bekas et al., `An estimator for the diagonal of a matrix <https://doi.org/10.1016/j.apnum.2007.01.003>`_, 2007
    """
    if probes < 1:
        raise ValueError(f"probes must be at least 1, got {probes}.")
    layout = lay_out(params, prunable, is_kernel)
    if not layout.ranked:  # an empty part of a tree: its loss may not even be defined
        return layout.scores({})

    def objective(weights: dict[int, Array]) -> Array:
        return scalar_loss(loss(layout.params(weights), batch))

    weights = {leaf.index: jnp.asarray(leaf.value) for leaf in layout.ranked}

    def add_probe(p: Array, total: dict[int, Array]) -> dict[int, Array]:
        probe = {
            i: jax.random.rademacher(
                jax.random.fold_in(jax.random.fold_in(key, p), i), w.shape, w.dtype
            )
            for i, w in weights.items()
        }
        _, product = jax.jvp(jax.grad(objective), (weights,), (probe,))
        return {i: t + widened(probe[i]) * widened(product[i]) for i, t in total.items()}

    start = {i: jnp.zeros_like(widened(w)) for i, w in weights.items()}
    diagonal = lax.fori_loop(0, probes, add_probe, start)
    tree = layout.scores(
        {i: jnp.square(widened(w)) * diagonal[i] / (2 * probes) for i, w in weights.items()}
    )
    check_scores(tree)
    return tree
