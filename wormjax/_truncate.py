"""The bare primitive of gradient truncation: scale what passes through at pruned entries."""

import functools
from dataclasses import dataclass
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.tree_util import register_dataclass
from jaxtyping import Array, Bool, Float, PyTree

from wormjax._masks import check_masks, check_same_structure
from wormjax._opt_state import part_of


@no_type_check  # JAX rebuilds it with specs, axes and None in place of arrays
@functools.partial(register_dataclass, data_fields=["masks", "factor"], meta_fields=[])
@dataclass(frozen=True)
class TruncateState:
    """Masks and factor in force; replace either (`dataclasses.replace`) and nothing recompiles.

    Attributes:
      masks: mask tree; False is truncated, a rank-0 leaf passes untouched.
      factor: float32 scalar.
    """

    masks: PyTree[Bool[Array, "..."]]
    factor: Float[Array, "..."]

    def masks_in_force(self) -> PyTree[Bool[Array, "..."]]:
        """The masks, for `wormjax.masks_of`."""
        return self.masks


def truncate(
    masks: PyTree[Bool[Array, "..."]], factor: float | Array
) -> optax.GradientTransformationExtraArgs:
    r"""Scale whatever passes through by ``factor`` at pruned entries.

    .. math:: u_i \leftarrow u_i \text{ if } m_i \text{ else } \chi\, u_i

    Its place in a chain is its meaning. First, it truncates gradients, as the WORM paper does; an
    optimizer that normalises (Adam, RMSProp, Lion) undoes that. Last, it scales the displacement of the
    pruned entries, whatever the optimizer, decoupled weight decay included.

    Args:
      masks: mask tree for the parameters; where the transformation sees only a part of them
        (`optax.multi_transform`, `optax.masked`), its masks are cut to that part.
      factor: the papers' chi. A Python number is where the state starts, and the state may be replaced. A
        JAX array, which is what `optax.inject_hyperparams` passes, is in force at every update.

    Returns:
      An optax transformation with a `TruncateState`. Kept entries, and all entries at factor 1, come out
      bit for bit as they went in; at factor 0 pruned ones come out as exact zeros, infinities too.

    Raises:
      ValueError: at ``init``, masks that do not fit the parameters; at ``update``, updates of another
        structure. The message names the first path.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import wormjax as wj
      >>> params = {"scale": jnp.ones(4)}
      >>> tx = wj.truncate({"scale": jnp.array([True, False, True, False])}, 0.5)
      >>> updates, _ = tx.update({"scale": jnp.array([1.0, -2.0, 3.0, 4.0])}, tx.init(params))
      >>> print(updates["scale"])
      [ 1. -1.  3.  2.]

    References:
      `The EarlyBird Gets the WORM <https://arxiv.org/abs/2406.11872>`_, 2024
    """

    def init(params: PyTree) -> TruncateState:
        own = cut_to(params, masks)
        check_masks(params, own)
        return TruncateState(own, jnp.asarray(factor, jnp.float32))

    def update(updates: PyTree, state: TruncateState, params: Any = None, **extra: Any) -> Any:
        del params, extra
        if isinstance(factor, jax.Array):
            state = TruncateState(state.masks, factor.astype(jnp.float32))
        return truncate_updates(updates, state), state

    return optax.GradientTransformationExtraArgs(init, update)


def truncate_updates(updates: PyTree, state: TruncateState) -> PyTree:
    """Return the updates with pruned entries scaled; see `truncate`."""
    check_same_structure(state.masks, updates, "masks", "updates")

    def leaf(mask, update):
        if mask.ndim == 0:
            return update
        factor = state.factor.astype(update.dtype)
        # selected, not multiplied: a subnormal times one may be flushed, and zero times infinity is NaN
        scaled = jnp.where(factor == 0, jnp.zeros((), update.dtype), factor * update)
        return _select(mask | (factor == 1), update, scaled)

    return jax.tree.map(leaf, state.masks, updates)


def _select(mask: Bool[Array, "..."], kept: Array, scaled: Array) -> Array:
    if kept.dtype not in (jnp.bfloat16, jnp.float16):
        return jnp.where(mask, kept, scaled)
    # as integers: a backend that selects halves as float32 rewrites the bits of NaNs
    bits = [lax.bitcast_convert_type(x, jnp.uint16) for x in (kept, scaled)]
    return lax.bitcast_convert_type(jnp.where(mask, bits[0], bits[1]), kept.dtype)


def cut_to(params: PyTree, masks: PyTree) -> PyTree:
    """Return the masks of the leaves that ``params`` shows, where parts of it are `optax.MaskedNode`."""
    holes = jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, optax.MaskedNode))
    if any(isinstance(x, optax.MaskedNode) for x in holes):
        return part_of(masks, params)
    return masks
