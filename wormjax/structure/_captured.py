"""The arrays that a function closes over, and what a ticket holds of them.

Statistics that were not passed as state, a frozen embedding: JAX traces such arrays as constants, and they shrink with
all else. A ticket knows them by their places in the trace, with shape, dtype and hash at full size, and holds their
entries that the small network uses.
"""

import dataclasses
import hashlib
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr
from jaxtyping import PyTree

from wormjax.structure._dims import Dim
from wormjax.structure._scopes import scopes
from wormjax.structure._trace import Traced


class CapturedWarning(UserWarning):
    """A function closes over arrays that would better be passed as state."""


Inputs = tuple[tuple[tuple[int, ...], str], ...]  # shape and dtype of each


class Captured(NamedTuple):
    """An array that a function captured: its shape, dtype and SHA-256 at full size."""

    shape: tuple[int, ...]
    dtype: str
    digest: str


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """What a ticket holds of a captured array.

    Attributes:
      array: the entries that some use of it keeps.
      kept: their indices along each axis that lost something.
      fills: for such an axis the number that all its removed entries hold, where they hold one. A reduction across
        the axis accounts for it.
    """

    array: Any
    kept: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)
    fills: Mapping[int, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, array: Any, kept: Mapping[int, np.ndarray]) -> "Block":
        """Cut an array of floats; others are small or tell places, and stay whole."""
        if not kept or not np.isnan(_blank((), array.dtype)):
            return cls(array)
        host, fills = np.asarray(array), {}
        for axis, indices in kept.items():
            gone = np.delete(host, indices, axis=axis).ravel()
            if gone.size and (gone == gone[0]).all():
                fills[axis] = float(gone[0])
        for axis, indices in kept.items():
            host = np.take(host, indices, axis=axis)
        return cls(host, kept, fills)

    def whole(self, shape: tuple[int, ...]) -> Any:
        """Return the array at full size; what the ticket does not hold is NaN."""
        if not self.kept:
            return self.array
        full = _blank(shape, self.array.dtype)
        every = [self.kept.get(axis, np.arange(n)) for axis, n in enumerate(shape)]
        full[np.ix_(*every)] = np.asarray(self.array)
        for axis, number in self.fills.items():
            gone = np.setdiff1d(np.arange(shape[axis]), self.kept[axis])
            np.moveaxis(full, axis, 0)[gone] = number
        return full

    def record(self) -> dict[str, Any]:
        """Return what is known besides the array in JSON values."""
        return {
            "kept": {str(axis): indices.tolist() for axis, indices in self.kept.items()},
            "fills": {str(axis): number for axis, number in self.fills.items()},
        }

    @classmethod
    def of_record(cls, row: Any, array: Any) -> "Block":
        """Read what `record` returned."""
        kept = {int(axis): np.asarray(indices, np.int64) for axis, indices in row["kept"].items()}
        return cls(array, kept, {int(axis): float(x) for axis, x in row["fills"].items()})

    def fits(self, told: Captured) -> bool:
        """Whether this is of such an array: dtype, rising indices, as many as the entries that are held."""
        shape = told.shape
        axes = {axis: n for axis, n in enumerate(shape) if axis in self.kept}
        if len(axes) != len(self.kept) or not set(self.fills) <= set(axes):
            return False
        every = [self.kept.get(axis, np.arange(n)) for axis, n in enumerate(shape)]
        rising = all(
            (np.diff(self.kept[axis]) > 0).all() and (self.kept[axis] % n == self.kept[axis]).all()
            for axis, n in axes.items()
        )
        is_whole = tuple(map(len, every)) == tuple(np.shape(self.array))
        return rising and is_whole and str(self.array.dtype) == told.dtype


class Holding(NamedTuple):
    """What a function captured when its groups were found.

    Attributes:
      found: the arrays in trace order; PRNG keys among them, of which only the hash is kept.
      inputs: shape and dtype of each input that the function was traced with.
      blocks: what there is of the arrays, by digest.
    """

    found: tuple[Captured, ...] = ()
    inputs: Inputs = ()
    blocks: Mapping[str, Block] = types.MappingProxyType({})

    @property
    def pruned(self) -> list[Captured]:
        """The arrays that lost something."""
        told = dict.fromkeys(self.found)  # each once, wherever the function uses it
        return [c for c in told if c.digest in self.blocks and self.blocks[c.digest].kept]

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks."""
        return sum(block.array.nbytes for block in self.blocks.values())


NOTHING = Holding()


def hold(traced: Traced, masks: Mapping[Dim, np.ndarray], inputs: PyTree) -> Holding:
    """Return what a traced function captured, cut to what is kept.

    Args:
      traced: the trace.
      masks: of its atoms that lose something.
      inputs: abstract inputs that it was traced with.
    """
    used: dict[int, list[np.ndarray]] = {}
    for scope in scopes(traced.scope):
        if not isinstance(scope.jaxpr, ClosedJaxpr):
            continue
        for array, v in zip(scope.jaxpr.consts, scope.jaxpr.jaxpr.constvars, strict=True):
            kept = [traced.dims.kept(dim, masks) for dim in scope.axes[v]]
            before = used.get(id(array), kept)
            used[id(array)] = [a | b for a, b in zip(before, kept, strict=True)]
    found, places = [], dict[str, tuple[Any, list[np.ndarray]]]()
    for array in constants(traced.closed):
        found.append(described(array))
        if not _is_key(array):
            kept = used.get(id(array), [np.ones(n, bool) for n in np.shape(array)])
            _, before = places.get(found[-1].digest, (array, kept))
            either = [a | b for a, b in zip(before, kept, strict=True)]
            places[found[-1].digest] = array, either
    blocks = {
        digest: Block.of(array, {k: np.flatnonzero(m) for k, m in enumerate(kept) if not m.all()})
        for digest, (array, kept) in places.items()
    }
    rows = tuple((tuple(x.shape), str(x.dtype)) for x in jax.tree.leaves(inputs))
    return Holding(tuple(found), rows, blocks)


def constants(closed: ClosedJaxpr) -> list[Any]:
    """Return the arrays that stand in a traced program, in its order.

    Numbers of Python and NumPy are part of its text; single keys are left out.
    """
    return [
        c
        for c in _constants(closed)
        if np.size(c) > (1 if _is_key(c) else 0) and not isinstance(c, jax.core.Tracer)
    ]


def described(array: Any) -> Captured:
    """Return an array's shape, dtype and hash."""
    host = jax.random.key_data(array) if _is_key(array) else array
    digest = hashlib.sha256(np.ascontiguousarray(host).tobytes())
    shape, dtype = tuple(np.shape(array)), str(array.dtype)
    digest.update(f"{dtype}{shape}".encode())
    return Captured(shape, dtype, digest.hexdigest())


def _constants(closed: ClosedJaxpr) -> Iterator[Any]:
    yield from closed.consts
    yield from _inner(closed.jaxpr)


def _inner(jaxpr: Jaxpr) -> Iterator[Any]:
    for eqn in jaxpr.eqns:
        for value in eqn.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                if isinstance(part, ClosedJaxpr):
                    yield from _constants(part)
                elif isinstance(part, Jaxpr):
                    yield from _inner(part)


def _is_key(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)


def _blank(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """NaN where the dtype has one, else zero."""
    floats = jnp.issubdtype(dtype, jnp.floating)
    return np.full(shape, np.nan if floats else 0).astype(dtype)
