"""What sparse training remembers."""

import dataclasses
import functools
from typing import Any, ClassVar, no_type_check

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from wormjax._packing import PackedMask, unpack
from wormjax._paths import leaf_names
from wormjax.dst._patterns import Pattern


@no_type_check  # JAX rebuilds it with specs, axes and None in place of arrays
@functools.partial(
    register_dataclass,
    data_fields=[
        "masks",
        "counts",
        "targets",
        "most",
        "count",
        "since",
        "key",
        "inner",
        "leaked",
        "nonfinite",
        "running",
        "gradients",
        "fired",
        "latent",
    ],
    meta_fields=["patterns"],
)
@dataclasses.dataclass(frozen=True)
class SparseState:
    """State of `wormjax.sparse_training`.

    Attributes:
      masks: a tree like the parameters: bool of the parameter's shape, rank-0 True where nothing is pruned;
        `wormjax.PackedMask` under ``packed=True``. Read them with `wormjax.masks_of`.
      counts: int32 (prunable leaves): units that every segment keeps; entries, where masks are unstructured.
      targets: int32 (2, prunable leaves): ``counts`` at the start and at the end of a changing density; or None.
      most: int32 (prunable leaves): units that no segment exceeds, where leaves share growth; or None.
      count: int32, optimizer updates seen.
      since: int32, optimizer updates since the last mask update.
      key: PRNG key; folded with the step and the leaf.
      inner: the inner optimizer's state.
      leaked: bool: a mask update found a pruned weight that was not zero.
      nonfinite: bool (prunable leaves): a score was NaN or infinite at some mask update.
      running: average of the criterion, float32 by prunable leaf, or None.
      gradients: average of the gradients, float32 by prunable leaf, or None.
      fired: bool by prunable leaf: where the mask was ever True; or None.
      latent: the dense parameters of straight-through training, by prunable leaf; or None.
      patterns: of the prunable leaves; static.
    """

    unbatched: ClassVar[tuple[str, ...]] = ("count",)

    masks: PyTree[Any]
    counts: Int[Array, "..."]
    targets: Int[Array, "..."] | None
    most: Int[Array, "..."] | None
    count: Int[Array, "..."]
    since: Int[Array, "..."]
    key: Key[Array, "..."]
    inner: PyTree[Any]
    leaked: Bool[Array, "..."]
    nonfinite: Bool[Array, "..."]
    running: list[Float[Array, "..."]] | None
    gradients: list[Float[Array, "..."]] | None
    fired: list[Bool[Array, "..."]] | None
    latent: list[Float[Array, "..."]] | None
    patterns: tuple[Pattern, ...]

    def masks_in_force(self) -> PyTree[Bool[Array, "..."]]:
        """The masks, for `wormjax.masks_of`."""
        return unpack(self.masks)

    @property
    def rate_explored(self) -> Float[Array, ""]:
        """R_s: the part of the prunable entries that were ever active (needs ``track_fired=True``).

        References:
          Liu et al., `Do We Actually Need Dense Over-Parameterization? <https://arxiv.org/abs/2102.02887>`_, 2021
        """
        if self.fired is None:
            raise ValueError(
                "The set of connections that were ever active is not kept: pass track_fired=True."
            )
        ever = sum((jnp.sum(x, dtype=jnp.int32) for x in self.fired), jnp.int32(0))
        return ever.astype(jnp.float32) / sum(x.size for x in self.fired)

    def problems(self) -> list[str]:
        """Sentences about what went wrong under jit (reads the device)."""
        leaked, flags = jax.device_get((self.leaked, self.nonfinite))
        told = []
        if leaked.any():
            told.append(
                "A mask update found a pruned weight that was not zero. Something changes parameters or updates after "
                "wormjax.sparse_training: it must be the last transformation that changes updates (put scales, clips, "
                "decay and averages into the inner optimizer), and parameters that are set by hand must be masked "
                "with wormjax.apply_masks(params, wormjax.masks_of(opt_state, params))."
            )
        if flags.any():
            lead = flags.ndim - 1
            pairs = zip(
                leaf_names(jax.tree.map(_rank, self.masks, is_leaf=_is_packed)),
                jax.tree.leaves(jax.tree.map(_rank, self.masks, is_leaf=_is_packed)),
                strict=True,
            )
            names = [n for n, rank in pairs if rank > lead]
            flags = flags.any(axis=tuple(range(lead)))
            told += [
                f"The score at {name!r} held NaN or infinity at a mask update, and counted as the lowest. Look for a "
                "diverged step (a smaller learning rate, a gradient clip)."
                for name, flag in zip(names, flags, strict=True)
                if flag
            ]
        return told


def _is_packed(node: Any) -> bool:
    return isinstance(node, PackedMask)


def _rank(mask: Any) -> int:
    return mask.bits.ndim if _is_packed(mask) else mask.ndim
