"""The group lasso over found groups: a pull of whole units to zero, in both its forms."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from wormjax.structure._units import Grouped, by_leaf, first_count, lines, others, unit_entries


def group_lasso(
    groups: Grouped, strength: float | Array, by_size: bool = False
) -> optax.GradientTransformationExtraArgs:
    r"""Add the subgradient of a group lasso over the found groups to the updates.

    .. math::
        g_i \leftarrow g_i + s \sum_{u \ni i} \sqrt{n_u}^{\,b} \frac{\theta_i}{\lVert\theta_u\rVert_2},
        \qquad \frac{0}{0} = 0

    where :math:`u` runs over the units that entry i belongs to (a kernel's entry lies on one of its input and on one
    of its output channels) and :math:`\theta_u` is all that goes with a unit, of every parameter. Placed before an
    optimizer that normalises, it is normalised with the gradients.

    Args:
      groups: from `find_groups`.
      strength: s.
      by_size: b, whether a unit of :math:`n_u` entries is pulled with :math:`\sqrt{n_u}` as in the paper, so that
        groups of wide layers are pulled like those of narrow ones.

    Returns:
      An optax transformation without state; its update needs the parameters. Under `optax.multi_transform` and
      `optax.masked` a unit is what it has in the part that is seen.

    Raises:
      ValueError: at ``update``, no parameters were passed, or other ones than the groups were found on.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax.structure import find_groups, group_lasso
      >>> params = {"up": jnp.array([[3.0, 0.0]]), "down": jnp.array([[4.0], [0.0]])}
      >>> groups = find_groups(lambda p, x: jnp.tanh(x @ p["up"]) @ p["down"], params, jnp.ones((1, 1)))
      >>> tx = group_lasso(groups, 10.0)
      >>> updates, _ = tx.update({"up": jnp.ones((1, 2)), "down": jnp.ones((2, 1))}, tx.init(params), params)
      >>> print(updates["up"], updates["down"].ravel())
      [[7. 1.]] [9. 1.]

    References:
      Yuan and Lin, `Model selection and estimation in regression with grouped variables
      <https://doi.org/10.1111/j.1467-9868.2005.00532.x>`_, 2006;
      Wen et al., `Learning Structured Sparsity in Deep Neural Networks <https://arxiv.org/abs/1608.03665>`_, 2016
    """

    def update(updates: PyTree, state: optax.EmptyState, params: Any = None, **extra: Any) -> Any:
        del extra
        if params is None:
            raise ValueError(
                "group_lasso needs the parameters: call tx.update(updates, state, params)."
            )
        leaves, structure = jax.tree.flatten(params)
        moving = [
            k for k, x in enumerate(leaves) if jnp.issubdtype(jnp.result_type(x), jnp.floating)
        ]

        def penalty(values: list[Array]) -> Array:
            merged = dict(enumerate(leaves)) | dict(zip(moving, values, strict=True))
            whole = jax.tree.unflatten(structure, list(merged.values()))
            return group_lasso_penalty(groups, whole, strength, by_size)

        pulls = dict(zip(moving, jax.grad(penalty)([leaves[k] for k in moving]), strict=True))
        moved = [
            u + pulls[k].astype(u.dtype) if k in pulls else u
            for k, u in enumerate(jax.tree.leaves(updates))
        ]
        return jax.tree.unflatten(jax.tree.structure(updates), moved), state

    return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)


def group_lasso_penalty(
    groups: Grouped, params: PyTree, strength: float | Array, by_size: bool = False
) -> Float[Array, ""]:
    r"""The same pull as a loss term: :math:`s \sum_u \sqrt{n_u}^{\,b} \lVert\theta_u\rVert_2`.

    Its gradient is what `group_lasso` adds, at units of zeros too.

    Args:
      groups: from `find_groups`.
      params: the parameters; what is not floating-point has no part in a norm.
      strength: s.
      by_size: as in `group_lasso`.

    Returns:
      Scalar float32, or float64 where a parameter is.

    Raises:
      ValueError: the parameters are not those that the groups were found on.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax.structure import find_groups, group_lasso_penalty
      >>> params = {"up": jnp.array([[3.0, 0.0]]), "down": jnp.array([[4.0], [1.0]])}
      >>> groups = find_groups(lambda p, x: jnp.tanh(x @ p["up"]) @ p["down"], params, jnp.ones((1, 1)))
      >>> print(group_lasso_penalty(groups, params, 0.5))
      3.0
    """
    seen = by_leaf(groups, params, "parameters")
    floats = {k: x for k, x in seen.items() if jnp.issubdtype(jnp.result_type(x), jnp.floating)}
    wide = jnp.float64 if jnp.float64 in map(jnp.result_type, floats.values()) else jnp.float32
    shapes = [like.shape for like in jax.tree.leaves(groups.shapes)]
    for leaf, x in floats.items():
        if jnp.shape(x) != shapes[leaf]:
            raise ValueError(
                f"Parameter {groups.traced.names[leaf]!r} has shape {jnp.shape(x)}, and {shapes[leaf]} where the "
                "groups were found. Find the groups on these parameters, after shrinking too."
            )
    total = jnp.zeros((), wide)
    for group in groups.groups:
        on = {leaf: along for leaf, along in lines(groups, group).items() if leaf in floats}
        squares = jnp.zeros(group.size + 1, wide)
        for leaf, along in on.items():
            square = jnp.square(jnp.asarray(floats[leaf]).astype(wide))
            for k, (axis, units) in enumerate(along):
                first = first_count(along, k, square.ndim, jnp)
                mine = square if first is None else jnp.where(first, square, jnp.zeros((), wide))
                squares = squares.at[units].add(jnp.sum(mine, axis=others(axis, square.ndim)))
        weight = math.sqrt(unit_entries(shapes, on)) if by_size else 1.0
        total = total + weight * jnp.sum(_root(squares[: group.size]))
    return jnp.asarray(strength, wide) * total


def _root(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """The square root, with the derivative 0 at 0."""
    positive = jnp.where(x > 0, x, jnp.ones_like(x))
    return jnp.where(x > 0, jnp.sqrt(positive), jnp.zeros_like(x))
