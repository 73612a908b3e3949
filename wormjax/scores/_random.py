"""Random: the control that every other score has to beat."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wormjax.scores._protocol import Rule, is_kernel, lay_out


def random(
    params: PyTree, key: PRNGKeyArray, *, prunable: Rule = None
) -> PyTree[Float[Array, "..."]]:
    r"""Score every weight by an independent uniform number.

    .. math::
        s_j \sim U(0, 1)

    Some papers' code draws normal numbers; every order of the weights is equally likely either
    way. Numbers are float32 whatever the parameter's dtype: bfloat16 knows so few values that
    most weights would tie. The key is folded with the leaf's place in flatten order, an
    ``optax.MaskedNode`` counting as one leaf, so that a masked part gets the numbers of the whole.

    Args:
      params: any pytree of arrays.
      key: PRNG key; the same key gives the same scores. Fold it with the round to draw anew.
      prunable: which leaves are ranked: a tree of bools as `wj.prunable` returns, or a function
        from ``params`` to one. ``None`` ranks the leaves that `magnitude` ranks.

    Returns:
      The tree of ``params``; a ranked leaf is float32 of its parameter's shape with values in the
      open interval (0, 1), any other leaf is a rank-0 ``inf``.

    Raises:
      ValueError: ``prunable`` has another structure than ``params``.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from wormjax import scores
      >>> tree = scores.random({"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, jax.random.key(0))
      >>> tree["kernel"].shape, tree["bias"].shape
      ((2, 3), ())
    """
    layout = lay_out(params, prunable, is_kernel)
    return layout.scores(
        {
            leaf.index: _open_uniform(jax.random.fold_in(key, leaf.index), leaf.value.shape)
            for leaf in layout.ranked
        }
    )


def _open_uniform(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
    # jax draws multiples of 2^-23 in [0, 1); half a step up opens the interval at 0, exactly
    return jax.random.uniform(key, shape, jnp.float32) + jnp.float32(2.0**-24)
