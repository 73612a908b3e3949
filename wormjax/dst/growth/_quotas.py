"""Dividing an exact number of new connections among leaves or outputs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from wormjax._selection import largest
from wormjax.dst._shares import floor_share

ROUNDS = 3  # of spreading what full leaves leave over, by share


def share_out(
    values: Float[Array, " L"], total: Int[Array, ""], room: Int[Array, " L"]
) -> Int[Array, " L"]:
    """Divide ``total`` in proportion to ``values``, at most ``room`` each, exactly.

    Args:
      values: float32, not negative.
      total: int32, at most the sum of ``room``.
      room: int32.

    Returns:
      int32 that sum to ``total``.

    Example:
      >>> import jax.numpy as jnp
      >>> print(share_out(jnp.array([3.0, 1.0]), jnp.int32(8), jnp.array([4, 9])))
      [3 5]
    """
    values = jnp.where(jnp.isfinite(values), values, jnp.float32(0))
    # nearly all of the room is used first, so that no leaf becomes dense while another has places
    most = floor_share(jnp.float32(0.99), room)
    bound = jnp.where(jnp.sum(most) >= total, most, room)
    given = jnp.zeros_like(room)
    for _ in range(ROUNDS):
        left = total - jnp.sum(given)
        weight = jnp.where(given < bound, values, jnp.float32(0))
        share = weight / jnp.maximum(jnp.sum(weight), jnp.finfo(jnp.float32).tiny)
        more = jax.vmap(floor_share, (0, None))(jnp.minimum(share, jnp.float32(1)), left)
        # rounding up in the shares may give more than is left: never beyond it, in leaf order
        more = jnp.minimum(more, bound - given)
        more = jnp.clip(left - (jnp.cumsum(more) - more), 0, more)
        given = given + more
    left = total - jnp.sum(given)
    free = bound - given
    return given + jnp.clip(left - (jnp.cumsum(free) - free), 0, free)


def grow_by_neuron(
    scores: Float[Array, "..."], free: Bool[Array, "..."], count: Int[Array, ""]
) -> Bool[Array, "..."]:
    """Return the new connections of a leaf: quotas by output (last axis), then the highest of the rest."""

    def rows(x: Array) -> Array:
        return jnp.moveaxis(x, -1, 0).reshape(x.shape[-1], -1)

    def only(where: Array, x: Array) -> Array:
        return jnp.where(where, x, jnp.array(-jnp.inf, x.dtype))

    score, room = rows(scores), rows(free)
    weight = jnp.sum(score, axis=1)
    share = weight / jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny)
    places: Callable = jax.vmap(floor_share, (0, None))
    quota = jnp.minimum(
        places(jnp.minimum(share.astype(jnp.float32), jnp.float32(1)), count),
        jnp.sum(room, axis=1, dtype=jnp.int32),
    )
    quota = jnp.clip(count - (jnp.cumsum(quota) - quota), 0, quota)
    chosen = jax.vmap(lambda x, k: largest([x], k)[0])(only(room, score), quota)
    rest = largest([only(room & ~chosen, score)], count - jnp.sum(quota))[0]
    moved = jnp.moveaxis(scores, -1, 0).shape
    return jnp.moveaxis((chosen | rest).reshape(moved), 0, -1)
