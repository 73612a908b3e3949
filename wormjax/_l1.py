"""The L1 pull on normalisation scales that Early-Bird trains with, in both its forms."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from wormjax._early_bird import Score
from wormjax.scores import norm_scale


def l1_pull(
    strength: float | Array, score: Score = norm_scale
) -> optax.GradientTransformationExtraArgs:
    r"""Add the subgradient of an L1 penalty on the scored leaves to the updates.

    .. math:: g_i \leftarrow g_i + s\,\mathrm{sign}(\theta_i), \qquad \mathrm{sign}(0) = 0

    In Early-Bird it stands after the truncation and before weight decay and momentum.

    Args:
      strength: the papers' s, 1e-4 there.
      score: which leaves; those that it ranks are pulled.

    Returns:
      An optax transformation without state; its update needs the parameters.

    Raises:
      ValueError: at ``update``, no parameters were passed.

    Example:
      >>> import jax.numpy as jnp
      >>> import wormjax as wj
      >>> tx = wj.l1_pull(0.5)
      >>> params = {"scale": jnp.array([2.0, -1.0, 0.0])}
      >>> updates, _ = tx.update({"scale": jnp.ones(3)}, tx.init(params), params)
      >>> print(updates["scale"])
      [1.5 0.5 1. ]

    References:
      You et al., `Drawing Early-Bird Tickets <https://arxiv.org/abs/1909.11957>`_, 2020
    """

    def update(updates: PyTree, state: optax.EmptyState, params: Any = None, **extra: Any) -> Any:
        del extra
        if params is None:
            raise ValueError(
                "l1_pull needs the parameters: call tx.update(updates, state, params)."
            )

        def pull(scored, update, param):
            if scored.ndim == 0:
                return update
            return update + jnp.asarray(strength, update.dtype) * jnp.sign(param).astype(
                update.dtype
            )

        return jax.tree.map(pull, jax.eval_shape(score, params), updates, params), state

    return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)


def l1_penalty(
    params: PyTree, strength: float | Array, score: Score = norm_scale
) -> Float[Array, ""]:
    r"""The same pull as a loss term: :math:`s \sum_i |\theta_i|` over the scored leaves.

    Its gradient is that of `l1_pull` wherever a parameter is not zero.

    Args:
      params: any pytree of arrays.
      strength: the papers' s.
      score: which leaves; those that it ranks are counted.

    Returns:
      Scalar float32.

    Example:
      >>> import jax.numpy as jnp
      >>> import wormjax as wj
      >>> print(wj.l1_penalty({"scale": jnp.array([2.0, -1.0]), "bias": jnp.ones(2)}, 0.5))
      1.5
    """
    scores = jax.tree.leaves(jax.eval_shape(score, params))
    terms = [
        jnp.sum(jnp.abs(p), dtype=jnp.float32)
        for p, s in zip(jax.tree.leaves(params), scores, strict=True)
        if s.ndim
    ]
    return jnp.asarray(strength, jnp.float32) * sum(terms, jnp.zeros((), jnp.float32))
