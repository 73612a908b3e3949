"""Masks at one bit an entry."""

import dataclasses
import functools
import math
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool, PyTree, UInt8

from wormjax._masks import check_bool
from wormjax._paths import path_name


@no_type_check  # JAX rebuilds it with specs, axes and None in place of arrays
@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["bits"], meta_fields=["axis", "length"]
)
@dataclasses.dataclass(frozen=True)
class PackedMask:
    """A mask with eight entries of one axis in a byte, lowest bit first.

    Attributes:
      bits: the mask's shape with ``ceil(length / 8)`` along ``axis``.
      axis: which axis is packed.
      length: how many entries the axis holds.
    """

    bits: UInt8[Array, "..."]
    axis: int
    length: int


def _shards_by_axis(mask: Any) -> list[int]:
    """Into how many pieces each axis is cut, as far as it is known (1 under automatic sharding in jit)."""
    sharding = (
        jax.typeof(mask).sharding
        if isinstance(mask, jax.core.Tracer)
        else getattr(mask, "sharding", None)
    )
    pieces = [1] * mask.ndim
    if isinstance(sharding, NamedSharding):
        for axis, names in enumerate(sharding.spec):
            if names is not None:
                for name in names if isinstance(names, tuple) else (names,):
                    pieces[axis] *= sharding.mesh.shape[name]
    return pieces


def _choose_axis(mask: Any) -> int | None:
    """The axis along which packing moves no data between devices and wastes fewest bits."""
    pieces = _shards_by_axis(mask)
    local = [a for a in range(mask.ndim) if pieces[a] == 1 or mask.shape[a] % (8 * pieces[a]) == 0]
    if not local:
        return None

    def padding(axis: int) -> tuple[bool, float, int]:
        n = mask.shape[axis]
        return (pieces[axis] > 1, -(-n // 8) * 8 / max(n, 1), axis)

    return min(local, key=padding)


def packed_bits(mask: Any) -> int:
    """Return how many bits `pack` stores of a mask leaf, the padding to whole bytes included.

    Args:
      mask: a bool array; a rank-0 one, which is not packed, has none.

    Example:
      >>> packed_bits(jnp.ones((3, 20), bool)), packed_bits(jnp.array(True))
      (72, 0)
    """
    if mask.ndim == 0:
        return 0
    axis = _choose_axis(mask)
    if axis is None:
        return 8 * mask.size
    lengths = [-(-n // 8) * 8 if a == axis else n for a, n in enumerate(mask.shape)]
    return math.prod(lengths)


def _pack_axis(mask: Array, axis: int) -> UInt8[Array, "..."]:
    length = mask.shape[axis]
    widths = [(0, -length % 8 if a == axis else 0) for a in range(mask.ndim)]
    padded = jnp.pad(mask, widths) if length % 8 else mask
    # splitting an axis into (bytes, 8) keeps a sharding of whole bytes where it is
    octets = padded.reshape((*mask.shape[:axis], -(-length // 8), 8, *mask.shape[axis + 1 :]))
    place = jnp.arange(8, dtype=jnp.uint8).reshape((8,) + (1,) * (mask.ndim - axis - 1))
    place = place.reshape((1,) * (octets.ndim - place.ndim) + place.shape)
    return jnp.sum(octets.astype(jnp.uint8) << place, axis=axis + 1, dtype=jnp.uint8)


def _unpack_axis(packed: PackedMask) -> Bool[Array, "..."]:
    bits, axis = jnp.expand_dims(packed.bits, packed.axis + 1), packed.axis
    place = jnp.arange(8, dtype=jnp.uint8).reshape((8,) + (1,) * (bits.ndim - axis - 2))
    place = place.reshape((1,) * (bits.ndim - place.ndim) + place.shape)
    octets = (bits >> place) & jnp.uint8(1)
    shape = (*packed.bits.shape[:axis], packed.bits.shape[axis] * 8, *packed.bits.shape[axis + 1 :])
    entries = octets.reshape(shape).astype(bool)
    if packed.length == shape[axis]:
        return entries
    return jax.lax.slice_in_dim(entries, 0, packed.length, axis=axis)


def pack(masks: PyTree, axis: int | None = None) -> PyTree:
    """Pack every mask to one bit an entry.

    Each leaf is packed along one axis of its own choice: one that is not sharded, or one whose shards hold
    whole bytes, so that packing moves nothing between devices. A leaf that is cut on every axis into
    pieces of broken bytes stays as it is. Inside ``jit`` under automatic sharding the cuts are not known
    while tracing: pass ``axis``.

    Args:
      masks: mask tree, bool leaves.
      axis: pack every leaf along this axis (negative counts from the end) instead of choosing.

    Returns:
      The tree with `PackedMask` in place of ranked leaves; rank-0 leaves stay.

    Raises:
      ValueError: a leaf is not bool, or has no such axis.

    Example:
      >>> import jax.numpy as jnp
      >>> packed = pack({"bn": jnp.ones(20, bool)})
      >>> packed["bn"].bits.nbytes
      3
    """

    def pack_leaf(path: Any, mask: Any) -> Array | PackedMask:
        name = path_name(path)
        check_bool(name, mask)
        if mask.ndim == 0:
            return mask
        if axis is not None and not -mask.ndim <= axis < mask.ndim:
            raise ValueError(
                f"The mask at {name!r} has rank {mask.ndim}: it has no axis {axis} to pack."
            )
        chosen = _choose_axis(mask) if axis is None else axis % mask.ndim
        return (
            mask
            if chosen is None
            else PackedMask(_pack_jit(mask, chosen), chosen, mask.shape[chosen])
        )

    return jax.tree_util.tree_map_with_path(pack_leaf, masks)


_pack_jit = jax.jit(_pack_axis, static_argnums=1)
_unpack_jit = jax.jit(_unpack_axis)


def unpack(packed: PyTree) -> PyTree:
    """Return the bool masks that `pack` was given, exactly.

    Args:
      packed: what `pack` returned.

    Returns:
      The mask tree, with the shapes and the structure it had.

    Example:
      >>> import jax.numpy as jnp
      >>> masks = {"bn": jnp.array([True, False, True]), "bias": jnp.array(True)}
      >>> print(unpack(pack(masks))["bn"])
      [ True False  True]
    """

    def is_packed(node: Any) -> bool:
        return isinstance(node, PackedMask)

    return jax.tree.map(lambda m: _unpack_jit(m) if is_packed(m) else m, packed, is_leaf=is_packed)
