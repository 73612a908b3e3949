"""Normalisation scale: the absolute value of every channel's learned scale."""

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from wormjax.scores._protocol import SCALE_NAMES, Layout, Rule, as_score, last_name, lay_out


def norm_scale(params: PyTree, *, prunable: Rule = None) -> PyTree[Float[Array, "..."]]:
    r"""Score every channel by the size of its normalisation scale, as Early-Bird tickets do.

    .. math::
        s_{lc} = |\gamma_{lc}|

    A scale is known by its name, so that of a LayerNorm, RMSNorm or GroupNorm counts like that of a
    BatchNorm; pass ``prunable`` to rank only some of them. The scales of scanned layers, stacked to
    rank 2, are ranked too. The shift and the running statistics play no part.

    Args:
      params: any pytree of arrays. In a part of a bigger tree (one that holds ``optax.MaskedNode``,
        or nothing at all) it is fine to find no scale.
      prunable: which leaves are ranked: a tree of bools as `wj.prunable` returns, or a function
        from ``params`` to one. ``None`` ranks floating-point leaves of rank 1 or more whose last
        path name is ``scale`` (Flax, Haiku) or ``gamma`` (Keras). Equinox calls its scales
        ``weight``, like any other weight, and needs ``prunable``.

    Returns:
      The tree of ``params``; a ranked leaf has its parameter's shape and dtype (float8 becomes
      float32), any other leaf is a rank-0 ``inf``.

    Raises:
      ValueError: there are parameters but no scale, or ``prunable`` has another structure.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax import scores
      >>> params = {"conv": {"kernel": jnp.ones((3, 3, 1, 2))}, "bn": {"scale": jnp.array([-2.0])}}
      >>> tree = scores.norm_scale(params)
      >>> tree["bn"], tree["conv"]
      ({'scale': Array([2.], dtype=float32)}, {'kernel': Array(inf, dtype=float32)})

    References:
      Liu et al., `Learning Efficient Convolutional Networks through Network Slimming
      <https://arxiv.org/abs/1708.06519>`_, 2017;
      You et al., `Drawing Early-Bird Tickets <https://arxiv.org/abs/1909.11957>`_, 2020
    """
    layout = lay_out(params, prunable, lambda name, _: last_name(name) in SCALE_NAMES)
    if prunable is None and layout.leaves and not layout.ranked and not layout.is_part:
        raise ValueError(_no_scale(layout))
    return layout.scores({leaf.index: as_score(jnp.abs(leaf.value)) for leaf in layout.ranked})


def _no_scale(layout: Layout) -> str:
    names = [repr(leaf.name) for leaf in layout.leaves]
    if names == ["''"]:
        return (
            "norm_scale was called on a bare array and not on a tree of parameters. "
            "optax.inject_hyperparams calls every function among the settings as a schedule of the step: "
            "name 'score' in its static_args."
        )
    found = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return (
        "The parameters have no normalisation scale: looked for floating-point leaves of rank 1 or "
        f"more whose last path name is 'scale' or 'gamma', found {found}. If the model has "
        "normalisation layers under other names, say which leaves to rank with "
        "prunable=wj.prunable(params, include=...); if it has none, use another score, such as "
        "wj.scores.magnitude."
    )
