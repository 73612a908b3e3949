"""Finding what this library keeps inside anybody's nested optimizer state."""

import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, PyTree

from wormjax._early_bird import EarlyBirdState
from wormjax._masks import never_pruned

S = TypeVar("S")


def find_states(tree: PyTree, kind: type[S]) -> list[S]:
    """Return every node of a type inside a tree, outermost only, in flatten order."""
    nodes = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, kind))
    return [node for node in nodes if isinstance(node, kind)]


def part_of(full: PyTree, part: PyTree) -> PyTree:
    """Return the leaves of ``full`` that ``part`` sees, with `optax.MaskedNode` where it sees none."""
    return jax.tree.map(
        lambda seen, whole: seen if isinstance(seen, optax.MaskedNode) else whole,
        part,
        full,
        is_leaf=lambda node: isinstance(node, optax.MaskedNode),
    )


def early_bird_state(opt_state: PyTree) -> EarlyBirdState:
    """Return the detector's state from inside any nested optax state.

    Raises:
      ValueError: there is none, or more than one.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import wormjax as wj
      >>> tx = optax.chain(wj.worm(wj.scores.norm_scale), optax.sgd(0.1))
      >>> state = wj.early_bird_state(tx.init({"bn": {"scale": jnp.ones(4)}}))
      >>> int(state.checks), bool(state.emerged)
      (0, False)
    """
    found = find_states(opt_state, EarlyBirdState)
    if len(found) != 1:
        raise ValueError(
            f"This optimizer state holds {len(found)} Early-Bird detectors and not one. "
            + (
                "Put wormjax.worm(...) into the chain."
                if not found
                else "Look inside the part you mean."
            )
        )
    return found[0]


def masks_of(opt_state: PyTree, params: PyTree) -> PyTree[Bool[Array, "..."]]:
    """Return the masks in force anywhere inside a nested optax state.

    Args:
      opt_state: state of any optax transformation that contains one of this library's.
      params: the parameters that the whole optimizer sees.

    Returns:
      Mask tree with the structure of ``params``; a leaf that no transformation masks is rank-0 True, and
      where several mask one leaf, an entry is kept if all of them keep it.

    Raises:
      ValueError: nothing in the state holds masks.

    Example:
      >>> import jax.numpy as jnp
      >>> import wormjax as wj
      >>> params = {"scale": jnp.ones(2), "kernel": jnp.ones((2, 2))}
      >>> tx = wj.truncate({"scale": jnp.array([True, False]), "kernel": jnp.array(True)}, 0.1)
      >>> wj.masks_of(tx.init(params), params)["kernel"].ndim
      0
    """
    found = [
        node.masks_in_force()
        for node in jax.tree.leaves(opt_state, is_leaf=_holds_masks)
        if _holds_masks(node)
    ]
    if not found:
        raise ValueError(
            "No transformation in this optimizer state holds masks. Put wormjax.truncate(...), "
            "wormjax.worm(...) or wormjax.sparse_training(...) into the chain, and pass the state that "
            "tx.init returned."
        )
    whole = jax.tree.map(lambda _: never_pruned(), params)
    for masks in found:
        seen = jax.tree.map(
            lambda m, w: w if isinstance(m, optax.MaskedNode) else m,
            masks,
            whole,
            is_leaf=lambda node: isinstance(node, optax.MaskedNode),
        )
        whole = jax.tree.map(_both, whole, seen)
    return whole


def seed_axes(opt_state: PyTree) -> PyTree:
    """Return ``in_axes`` and ``out_axes`` that batch an optimizer state over seeds, and not its counters.

    Under `jax.vmap` a batched counter would turn the conditional that gates ``worm(every=n)`` or the mask updates of
    `wormjax.sparse_training` into a select that runs both branches at every step. With these axes the counter stays one
    for all seeds.

    Args:
      opt_state: one seed's state of any optax transformation that contains one of this library's.

    Returns:
      A tree of the state's structure: None for the counters, 0 for all else.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import wormjax as wj
      >>> tx = wj.worm(wj.scores.norm_scale, every=10)
      >>> axes = seed_axes(tx.init({"scale": jnp.ones(4)}))
      >>> params = {"scale": jnp.ones((3, 4))}
      >>> states = jax.vmap(tx.init, out_axes=axes)(params)
      >>> _, states = jax.vmap(tx.update, (0, axes, 0), (0, axes))(params, states, params)
      >>> states.count.shape, states.detector.emerged.shape
      ((), (3,))
    """

    def visit(node: Any) -> Any:
        if not _has_counters(node):
            return 0
        # what it wraps may hold counters too
        axes = jax.tree.map(
            visit, node, is_leaf=lambda inside: inside is not node and _has_counters(inside)
        )
        return dataclasses.replace(axes, **dict.fromkeys(type(node).unbatched))

    return jax.tree.map(visit, opt_state, is_leaf=_has_counters)


def _has_counters(node: Any) -> bool:
    return hasattr(type(node), "unbatched")


def check(state: PyTree) -> None:
    """Raise on the host for what could only be flagged under jit.

    It waits for the device. Call it where you read the detector anyway, such as at the top of an epoch.

    Args:
      state: an optimizer state, a detector's state, or any tree that holds them.

    Raises:
      ValueError: a score was NaN or infinite at a detection (naming the leaf).

    Example:
      >>> import jax.numpy as jnp
      >>> import wormjax as wj
      >>> detector = wj.early_bird(wj.scores.norm_scale)
      >>> wj.check(detector.init({"scale": jnp.ones(3)}))
    """
    nodes = jax.tree.leaves(state, is_leaf=lambda node: hasattr(type(node), "problems"))
    found = [p for node in nodes if hasattr(type(node), "problems") for p in node.problems()]
    if found:
        raise ValueError(" ".join(found))


def _holds_masks(node: Any) -> bool:
    return hasattr(type(node), "masks_in_force")


def _both(a: Bool[Array, "..."], b: Bool[Array, "..."]) -> Bool[Array, "..."]:
    if a.ndim == 0 or b.ndim == 0:
        return b if a.ndim == 0 else a
    return jnp.logical_and(a, b)
