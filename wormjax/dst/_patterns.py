r"""Which entries of a leaf live and die together, and among whom they compete.

A pattern reads a leaf as ``(segments, units, entries)``. The entries of a unit share one bit, and every segment keeps
the same number of its units:

=================  ==============  ==================  =================
pattern            segments        units               entries
=================  ==============  ==================  =================
unstructured       1               every entry         1
n_of_m             groups of m     m                   1
fan_in             outputs         inputs of one       1
block              1               blocks              those of a block
channel            1               channels            those of a channel
=================  ==============  ==================  =================

A mask update moves units inside a segment. That is what makes 2:4 sparsity dynamic: selecting n of every m anew after
dropping, as JaxPruner does, gives the same mask back.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from wormjax._selection import check_choice, largest

Shape = tuple[int, ...]
Pool = Literal["mean", "max"]
RANKED_WITHIN = 32  # segments this narrow are ranked by comparing every pair


@runtime_checkable
class Pattern(Protocol):
    """How a leaf is read; frozen dataclasses, so that they are hashable."""

    def check(self, name: str, shape: Shape) -> None:
        """Raise a ValueError naming the leaf that this pattern does not fit."""

    def layout(self, shape: Shape) -> tuple[int, int, int]:
        """Return the numbers of segments, of units in a segment and of entries in a unit."""

    def units(self, values: Float[Array, "..."]) -> Float[Array, "..."]:
        """Pool scores over the entries of a unit."""

    def spread(self, chosen: Bool[Array, "..."], shape: Shape) -> Bool[Array, "..."]:
        """Return the leaf's mask from one bit a unit."""


@dataclasses.dataclass(frozen=True)
class Unstructured:
    """Every entry by itself. The leaf keeps its shape, so that a sharded one stays where it is."""

    def check(self, name: str, shape: Shape) -> None:
        """Every leaf fits."""

    def layout(self, shape: Shape) -> tuple[int, int, int]:
        """One segment of single entries."""
        return 1, math.prod(shape), 1

    def units(self, values: Array) -> Array:
        """The scores as they are."""
        return values

    def spread(self, chosen: Array, shape: Shape) -> Array:
        """The mask as it is."""
        return chosen


@dataclasses.dataclass(frozen=True)
class _Axes:
    """What the structured patterns share: an axis cut in two, axes moved, the scores pooled."""

    def check(self, name: str, shape: Shape) -> None:
        raise NotImplementedError

    def _cut(self, shape: Shape) -> tuple[Shape, Sequence[int], tuple[int, int, int]]:
        """The shape with axes split, the order of its axes, and the sizes it is then joined to."""
        raise NotImplementedError

    def layout(self, shape: Shape) -> tuple[int, int, int]:
        """Numbers of segments, units and entries."""
        return self._cut(shape)[2]

    def units(self, values: Array) -> Array:
        """Pool over entries; shape (segments, units)."""
        split, order, joined = self._cut(values.shape)
        x = values.reshape(split).transpose(order).reshape(joined)
        if joined[2] == 1:
            return x[:, :, 0]
        return jnp.max(x, axis=2) if getattr(self, "pool", "mean") == "max" else jnp.mean(x, axis=2)

    def spread(self, chosen: Array, shape: Shape) -> Array:
        """Repeat every unit's bit over its entries, and put the axes back."""
        split, order, joined = self._cut(shape)
        x = jnp.broadcast_to(chosen[:, :, None], joined).reshape([split[a] for a in order])
        return x.transpose([list(order).index(a) for a in range(len(order))]).reshape(shape)


@dataclasses.dataclass(frozen=True)
class NOfM(_Axes):
    """See `n_of_m`."""

    n: int
    m: int
    axis: int

    def check(self, name: str, shape: Shape) -> None:
        """The axis must be there and divide into groups."""
        _check_axis(name, shape, self.axis, f"{self.n}:{self.m} sparsity")
        if shape[self.axis] % self.m:
            raise ValueError(
                f"{self.n}:{self.m} sparsity does not fit the leaf {name!r} of shape {shape}: axis {self.axis} "
                f"has {shape[self.axis]} entries, which {self.m} does not divide. Choose another axis, or "
                "leave this leaf out with prunable=."
            )

    def _cut(self, shape: Shape) -> tuple[Shape, Sequence[int], tuple[int, int, int]]:
        axis = self.axis % len(shape)
        split = (*shape[:axis], shape[axis] // self.m, self.m, *shape[axis + 1 :])
        order = [a for a in range(len(split)) if a != axis + 1] + [axis + 1]
        return split, order, (math.prod(shape) // self.m, self.m, 1)


@dataclasses.dataclass(frozen=True)
class FanIn(_Axes):
    """See `fan_in`."""

    axis: int

    def check(self, name: str, shape: Shape) -> None:
        """The output axis must be there."""
        _check_axis(name, shape, self.axis, "constant fan-in")

    def _cut(self, shape: Shape) -> tuple[Shape, Sequence[int], tuple[int, int, int]]:
        axis = self.axis % len(shape)
        order = [axis] + [a for a in range(len(shape)) if a != axis]
        return shape, order, (shape[axis], math.prod(shape) // max(shape[axis], 1), 1)


@dataclasses.dataclass(frozen=True)
class Block(_Axes):
    """See `block`."""

    sizes: tuple[int, ...]
    axes: tuple[int, ...]
    pool: Pool

    def check(self, name: str, shape: Shape) -> None:
        """Every blocked axis must be there and divide."""
        for size, axis in zip(self.sizes, self.axes, strict=True):
            _check_axis(name, shape, axis, f"a block of {self.sizes}")
            if shape[axis] % size:
                raise ValueError(
                    f"A block of {self.sizes} on the axes {self.axes} does not fit the leaf {name!r} of shape "
                    f"{shape}: axis {axis} has {shape[axis]} entries, which {size} does not divide. Choose "
                    "another block, or leave this leaf out with prunable=."
                )

    def _cut(self, shape: Shape) -> tuple[Shape, Sequence[int], tuple[int, int, int]]:
        sizes = {a % len(shape): s for a, s in zip(self.axes, self.sizes, strict=True)}
        split: list[int] = []
        outer, inner = [], []
        for axis, length in enumerate(shape):
            outer.append(len(split))
            split.append(length // sizes.get(axis, 1))
            if axis in sizes:
                inner.append(len(split))
                split.append(sizes[axis])
        entries = math.prod(self.sizes)
        return tuple(split), outer + inner, (1, math.prod(shape) // entries, entries)


@dataclasses.dataclass(frozen=True)
class Channel(_Axes):
    """See `channel`."""

    axis: int
    pool: Pool

    def check(self, name: str, shape: Shape) -> None:
        """The channel axis must be there."""
        _check_axis(name, shape, self.axis, "a channel pattern")

    def _cut(self, shape: Shape) -> tuple[Shape, Sequence[int], tuple[int, int, int]]:
        axis = self.axis % len(shape)
        order = [axis] + [a for a in range(len(shape)) if a != axis]
        return shape, order, (1, shape[axis], math.prod(shape) // max(shape[axis], 1))


def unstructured() -> Pattern:
    """Every entry of a leaf is a unit, and they all compete.

    Example:
      >>> unstructured().layout((3, 4))
      (1, 12, 1)
    """
    return Unstructured()


def n_of_m(n: int, m: int, axis: int = -2) -> Pattern:
    """Keep ``n`` of every ``m`` consecutive entries along an axis.

    The density is then ``n / m`` whatever the distribution says.

    Args:
      n: kept of every group.
      m: entries of a group.
      axis: along which groups lie. The default is the input axis of a Flax kernel (``in, out``), along which sparse
        matrix units multiply; JaxPruner groups along the last.

    Raises:
      ValueError: not ``0 < n < m``.

    Example:
      >>> n_of_m(2, 4).layout((8, 3))
      (6, 4, 1)
    """
    if not 0 < n < m:
        raise ValueError(f"n_of_m keeps n of every m entries with 0 < n < m, got n={n} and m={m}.")
    return NOfM(n, m, axis)


def fan_in(axis: int = -1) -> Pattern:
    """Keep the same number of inputs of every output.

    Args:
      axis: the output axis.

    Example:
      >>> fan_in().layout((3, 3, 8, 16))
      (16, 72, 1)

    References:
      Lasby et al., `Dynamic Sparse Training with Structured Sparsity <https://arxiv.org/abs/2305.02299>`_, 2024
    """
    return FanIn(axis)


def block(sizes: Sequence[int], axes: Sequence[int] | None = None, pool: Pool = "mean") -> Pattern:
    """Keep or prune whole blocks.

    Args:
      sizes: of a block, one number an axis.
      axes: which axes are cut into blocks; by default the last ones. For two sizes these are the input and output
        axes of a Flax kernel, of convolutions (``height, width, in, out``) too.
      pool: what a block scores: the ``"mean"`` or the ``"max"`` of its entries' scores.

    Raises:
      ValueError: sizes that are not positive, or as many axes as sizes are not given.

    Example:
      >>> block((4, 4)).layout((3, 3, 8, 16))
      (1, 72, 16)
    """
    chosen = tuple(range(-len(sizes), 0)) if axes is None else tuple(axes)
    if not sizes or min(sizes) < 1 or len(chosen) != len(sizes):
        raise ValueError(
            f"block takes one positive size an axis, got sizes={tuple(sizes)} and axes={chosen}."
        )
    check_choice("pool", pool, ("mean", "max"))
    return Block(tuple(sizes), chosen, pool)


def channel(axis: int = -1, pool: Pool = "mean") -> Pattern:
    """Keep or prune whole channels: the slices along one axis.

    At the end `wormjax.dst.channel_masks` says which channels are left, and `wormjax.shrink` removes the others from
    the arrays; the example there goes all the way. Leave the last layer out with ``prunable=``: its channels are the
    network's outputs.

    Args:
      axis: the channel axis; the default is the output axis of a Flax kernel.
      pool: what a channel scores: the ``"mean"`` or the ``"max"`` of its entries' scores.

    Example:
      >>> channel().layout((3, 3, 8, 16))
      (1, 16, 72)
    """
    check_choice("pool", pool, ("mean", "max"))
    return Channel(axis, pool)


def kept_in_segment(pattern: Pattern, shape: Shape, entries: int) -> int:
    """Return how many units of a segment make about ``entries`` kept entries of the leaf, at least 1.

    Example:
      >>> kept_in_segment(channel(), (3, 3, 8, 16), 288)
      4
    """
    segments, units, size = pattern.layout(shape)
    if isinstance(pattern, NOfM):
        return pattern.n
    return min(units, max(entries // (segments * size), 1 if entries else 0))


def top(scores: Float[Array, "..."], kept: Int[Array, ""], pattern: Pattern) -> Bool[Array, "..."]:
    """Return one bit a unit: the ``kept`` highest of every segment, ties to the lower index.

    Args:
      scores: as `Pattern.units` returns them.
      kept: int32, units that a segment keeps.
      pattern: of the leaf.
    """
    if isinstance(pattern, Unstructured):
        return largest([scores], kept)[0]
    if scores.shape[0] == 1:
        return largest([scores[0]], kept)[0][None]
    if scores.shape[1] <= RANKED_WITHIN:
        return _ranks(scores) < kept
    return jax.vmap(lambda row: largest([row], kept)[0])(scores)


def _ranks(scores: Array) -> Array:
    """Position of every entry in the descending order of its row, by comparing every pair."""
    mine, other = scores[:, :, None], scores[:, None, :]
    shape = (1, scores.shape[1], scores.shape[1])
    earlier = lax.broadcasted_iota(jnp.int32, shape, 2) < lax.broadcasted_iota(jnp.int32, shape, 1)
    ahead = (other > mine) | ((other == mine) & earlier)
    return jnp.sum(ahead, axis=2, dtype=jnp.int32)


def _check_axis(name: str, shape: Shape, axis: int, what: str) -> None:
    if not -len(shape) <= axis < len(shape):
        raise ValueError(
            f"{what[0].upper() + what[1:]} does not fit the leaf {name!r} of shape {shape}: it has no axis {axis}. "
            "Leave the leaf out with prunable=."
        )
