"""From masks of channels to a network that is smaller."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from wormjax._opt_state import find_states, masks_of
from wormjax._packing import unpack
from wormjax.dst._patterns import Channel
from wormjax.dst._state import SparseState


def channel_masks(opt_state: PyTree, params: PyTree) -> PyTree[Bool[Array, "..."]]:
    """Return the masks in force, of channels as one bit a channel: what `wormjax.plan` reads widths off.

    A mask of `wormjax.masks_of` has the parameter's shape, so that the mask of the next layer, which prunes outputs of
    its own, speaks of these channels too, and keeps them all. Here a mask of channels has size 1 along every other
    axis, and speaks of its own channels only.

    Args:
      opt_state: state of any optax transformation with a `wormjax.sparse_training` inside.
      params: the parameters that the whole optimizer sees.

    Returns:
      Mask tree of ``params``. Leaves of other patterns than `wormjax.dst.patterns.channel` have masks of full shape.

    Raises:
      ValueError: no leaf has masks of channels.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import wormjax as wj
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> params = {"up": jax.random.normal(keys[0], (5, 8)), "down": jax.random.normal(keys[1], (8, 3))}
      >>> x = jax.random.normal(keys[2], (16, 5))
      >>> def apply(params, x):
      ...     return jnp.tanh(x @ params["up"]) @ params["down"]
      >>> tx = wj.sparse_training(optax.sgd(0.1), key=keys[0], density=0.5, every=2, stop=8,
      ...                         pattern=wj.dst.patterns.channel(), prunable={"up": True, "down": False})
      >>> state = tx.init(params)
      >>> @jax.jit
      ... def step(params, state):
      ...     grads = jax.grad(lambda p: jnp.mean((apply(p, x) - 1) ** 2))(params)
      ...     updates, state = tx.update(grads, state, params)
      ...     return optax.apply_updates(params, updates), state
      >>> for _ in range(10):
      ...     params, state = step(params, state)
      >>> plan = wj.plan(wj.find_groups(apply, params, x), masks=channel_masks(state, params))
      >>> ticket = wj.shrink(plan, params, opt_state=state, tx=tx)
      >>> ticket.params["up"].shape, ticket.opt_state.masks["up"].shape
      ((5, 4), (5, 4))
      >>> bool(jnp.allclose(ticket.apply(ticket.params, x), apply(params, x), atol=1e-5))
      True
    """
    states = find_states(opt_state, SparseState)
    if not any(isinstance(p, Channel) for state in states for p in state.patterns):
        raise ValueError(
            "No mask in this optimizer state is of channels. Give wormjax.sparse_training "
            "pattern=wormjax.dst.patterns.channel()."
        )

    def visit(node: Any) -> Any:
        return dataclasses.replace(node, masks=_by_channel(node)) if _is_sparse(node) else node

    return masks_of(jax.tree.map(visit, opt_state, is_leaf=_is_sparse), params)


def _by_channel(state: SparseState) -> PyTree:
    patterns = iter(state.patterns)
    leaves, treedef = jax.tree.flatten(unpack(state.masks))
    reduced = [_reduced(m, next(patterns)) if m.ndim else m for m in leaves]
    return jax.tree.unflatten(treedef, reduced)


def _reduced(mask: Array, pattern: Any) -> Array:
    if not isinstance(pattern, Channel):
        return mask
    beside = tuple(a for a in range(mask.ndim) if a != pattern.axis % mask.ndim)
    return jnp.any(mask, axis=beside, keepdims=True)


def _is_sparse(node: Any) -> bool:
    return isinstance(node, SparseState)
