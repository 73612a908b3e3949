"""Magnitude: the absolute value of every weight."""

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from wormjax.scores._protocol import Rule, as_score, is_kernel, lay_out


def magnitude(params: PyTree, *, prunable: Rule = None) -> PyTree[Float[Array, "..."]]:
    r"""Score every weight by its absolute value.

    .. math::
        s_j = |\theta_j|

    Args:
      params: any pytree of arrays.
      prunable: which leaves are ranked: a tree of bools as `wj.prunable` returns, or a function
        from ``params`` to one. ``None`` ranks floating-point leaves of rank 2 or more that are not
        named bias, shift, offset, beta, scale or gamma: kernels and embedding tables.

    Returns:
      The tree of ``params``; a ranked leaf has its parameter's shape and dtype (float8 becomes
      float32), any other leaf is a rank-0 ``inf``.

    Raises:
      ValueError: ``prunable`` has another structure than ``params``.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax import scores
      >>> scores.magnitude({"kernel": jnp.array([[-3.0, 1.0]]), "bias": jnp.zeros(2)})
      {'bias': Array(inf, dtype=float32), 'kernel': Array([[3., 1.]], dtype=float32)}

    References:
      Han et al., `Learning both Weights and Connections for Efficient Neural Networks
      <https://arxiv.org/abs/1506.02626>`_, 2015
    """
    layout = lay_out(params, prunable, is_kernel)
    return layout.scores({leaf.index: as_score(jnp.abs(leaf.value)) for leaf in layout.ranked})
