"""What an Early-Bird detector remembers, and how it is read."""

import dataclasses
import functools
from collections.abc import Callable
from typing import no_type_check

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass
from jaxtyping import Array, Bool, Float, Int, PyTree

from wormjax._bit_planes import bit, low_bits
from wormjax._masks import never_pruned


@no_type_check  # JAX rebuilds it with specs, axes and None in place of arrays
@functools.partial(
    register_dataclass,
    data_fields=[
        "planes",
        "disagreements",
        "checks",
        "emerged",
        "emerged_at",
        "degenerate",
        "nonfinite",
    ],
    meta_fields=["window", "cap", "sizes", "names"],
)
@dataclasses.dataclass(frozen=True)
class EarlyBirdState:
    """What the detector remembers. Where several prune ratios are watched, R is a leading axis.

    Attributes:
      planes: bit planes of the window and of the ticket, a tree like the parameters; a ranked leaf is
        unsigned of shape ([R,] *mask shape), a leaf that is never pruned is rank-0.
      disagreements: int32 ([R,] window - 1, leaves): how many entries of each ranked leaf differ between
        the compared masks, oldest first; all of them until the window is full.
      checks: int32, detections so far.
      emerged: bool ([R]): whether the ticket was drawn.
      emerged_at: int32 ([R]): the 0-based detection at which it was, -1 before. With one detection at the
        top of every epoch this is the number of epochs trained.
      degenerate: bool: all scores of the newest detection were equal, so that its mask means nothing.
      nonfinite: bool (leaves): a score of this leaf was NaN or infinite at some detection.
      window: masks compared.
      cap: detections after which the search has failed, or None.
      sizes: entries of each ranked leaf.
      names: path of each ranked leaf.
    """

    planes: PyTree[Array]
    disagreements: Int[Array, "..."]
    checks: Int[Array, "..."]
    emerged: Bool[Array, "..."]
    emerged_at: Int[Array, "..."]
    degenerate: Bool[Array, "..."]
    nonfinite: Bool[Array, "..."]
    window: int
    cap: int | None
    sizes: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def masks(self) -> PyTree[Bool[Array, "..."]]:
        """The ticket's masks once it has emerged, the newest masks before that."""
        return self._map_planes(
            lambda plane, emerged: jnp.where(emerged, bit(plane, -1), bit(plane, 0))
        )

    @property
    def newest(self) -> PyTree[Bool[Array, "..."]]:
        """The masks of the newest detection."""
        return self._map_planes(lambda plane, _: bit(plane, 0))

    @property
    def kept_in_window(self) -> PyTree[Bool[Array, "..."]]:
        """False where an entry is pruned in every mask of the window (all True until it is full)."""
        return self._map_planes(lambda plane, _: (plane & low_bits(plane, self.window)) != 0)

    @property
    def full(self) -> Bool[Array, "..."]:
        """Whether the window has been filled."""
        return self.checks >= self.window

    @property
    def leaf_distances(self) -> Float[Array, "..."]:
        """Float32 ([R,] window - 1, leaves): mask distance of each ranked leaf, oldest first."""
        return self.disagreements.astype(jnp.float32) / jnp.array(self.sizes, jnp.float32).reshape(
            (1,) * (self.disagreements.ndim - 1) + (-1,)
        )

    @property
    def distances(self) -> Float[Array, "..."]:
        """Float32 ([R,] window - 1): the distances of the stop rule, oldest first; 1 until full."""
        if not self.sizes:
            return jnp.ones(self.disagreements.shape[:-1], jnp.float32)
        return jnp.sum(self.disagreements, axis=-1).astype(jnp.float32) / sum(self.sizes)

    @property
    def largest_distance(self) -> Float[Array, "..."]:
        """Float32 ([R]): the largest of `distances` (D_max)."""
        return jnp.max(self.distances, axis=-1)

    @property
    def mean_distance(self) -> Float[Array, "..."]:
        """Float32 ([R]): the mean of `distances` (D_mean)."""
        return jnp.mean(self.distances, axis=-1)

    @property
    def no_ticket(self) -> Bool[Array, "..."]:
        """Bool ([R]): the cap was reached and no ticket had emerged."""
        if self.cap is None:
            return jnp.zeros_like(self.emerged)
        late = self.checks >= self.cap
        return ~self.emerged & late.reshape(late.shape + (1,) * (self.emerged.ndim - late.ndim))

    @property
    def invalid(self) -> Bool[Array, "..."]:
        """Whether any score was NaN or infinite; `wormjax.check` raises on it, naming the leaf."""
        return jnp.any(self.nonfinite, axis=-1)

    def problems(self) -> list[str]:
        """Sentences about what went wrong under jit (reads the device)."""
        flags = jax.device_get(self.nonfinite)
        flags = flags.any(axis=tuple(range(flags.ndim - 1)))
        return [
            f"The score at {name!r} held NaN or infinity at a detection, so the masks since then mean "
            "nothing. Look for a diverged step (a smaller learning rate, a gradient clip)."
            for name, flag in zip(self.names, flags, strict=True)
            if flag
        ]

    def _map_planes(self, read: Callable[[Array, Array], Array]) -> PyTree:
        def leaf(plane):
            if plane.ndim == 0:
                return never_pruned()
            emerged = self.emerged
            return read(plane, emerged.reshape(emerged.shape + (1,) * (plane.ndim - emerged.ndim)))

        return jax.tree.map(leaf, self.planes)
