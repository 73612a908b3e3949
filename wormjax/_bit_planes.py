"""Windows of masks as bit planes of one unsigned integer an entry.

Bit j of an entry is its mask j detections ago, so that pushing a mask is a shift; the highest bit holds the
ticket. The planes lie along an axis that no sharding cuts.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool


def plane_dtype(window: int) -> Any:
    """The smallest unsigned integer with a bit for each mask of the window and one for the ticket."""
    return jnp.uint8 if window < 8 else jnp.uint16 if window < 16 else jnp.uint32


def bit(plane: Array, position: int) -> Bool[Array, "..."]:
    """Return one bit of every entry; negative positions count from the highest."""
    shift = position % (plane.dtype.itemsize * 8)
    return ((plane >> shift) & jnp.ones((), plane.dtype)).astype(bool)


def low_bits(plane: Array, count: int) -> Array:
    """Return the integer whose ``count`` lowest bits are set, in the plane's dtype."""
    return jnp.array((1 << count) - 1, plane.dtype)


def ticket_bit(plane: Array) -> Array:
    """Return the integer whose highest bit is set, in the plane's dtype."""
    return jnp.array(1 << (plane.dtype.itemsize * 8 - 1), plane.dtype)


def store_ticket(plane: Array, draw: Bool[Array, "..."]) -> Array:
    """Copy the newest mask into the ticket's bit where ``draw`` says so."""
    draw = draw.reshape(draw.shape + (1,) * (plane.ndim - draw.ndim))
    ticket = bit(plane, 0).astype(plane.dtype) << (plane.dtype.itemsize * 8 - 1)
    return jnp.where(draw, plane | ticket, plane)
