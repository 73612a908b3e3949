"""One update of sparse training: the gate, the inner optimizer, and zeros that stay zeros."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, PyTree

from wormjax._masks import check_same_structure
from wormjax._packing import PackedMask, pack, unpack
from wormjax._paths import leaf_names
from wormjax.dst._followers import (
    Follower,
    averaged,
    followers,
    zeroed,
)
from wormjax.dst._observation import Trees, connections, refreshed, remember, targets
from wormjax.dst._patterns import Pattern
from wormjax.dst._refresh import Connections, select_anew
from wormjax.dst._settings import Settings
from wormjax.dst._state import SparseState


def update(
    settings: Settings,
    inner: optax.GradientTransformationExtraArgs,
    updates: PyTree,
    state: SparseState,
    params: PyTree | None,
    extra: dict[str, Any],
) -> tuple[PyTree, SparseState]:
    """Update; see `wormjax.sparse_training`.

    Compiled, so that outside jit the conditional is not compiled anew at every call; unless ``extra`` holds a function.
    """
    arrays = all(
        isinstance(x, jax.Array | np.ndarray | float | int) for x in jax.tree.leaves(extra)
    )
    return (_update_jit if arrays else _update)(settings, inner, updates, state, params, extra)


def _update(
    settings: Settings,
    inner: optax.GradientTransformationExtraArgs,
    updates: PyTree,
    state: SparseState,
    params: PyTree | None,
    extra: dict[str, Any],
) -> tuple[PyTree, SparseState]:
    if params is None:
        raise ValueError(
            "Sparse training sets pruned weights to zero, so it must see them: call "
            "tx.update(grads, state, params)."
        )
    check_same_structure(params, updates, "params", "updates")
    masks = state.masks_in_force()
    check_same_structure(masks, params, "the masks of this state", "params")
    flags = jax.tree.leaves(masks)
    params_leaves, treedef = jax.tree.flatten(params)
    at = [i for i, m in enumerate(flags) if m.ndim]
    trees = Trees(treedef, params_leaves, jax.tree.leaves(updates), at)
    names = leaf_names(params)
    patterns = tuple(settings.pattern_of(names[i], params_leaves[i]) for i in at)
    old = [flags[i] for i in at]

    step = optax.safe_increment(state.count)
    state = dataclasses.replace(state, count=step)
    if settings.order == "skip":
        outs, state = _skipping(settings, inner, patterns, trees, old, state, extra)
    elif settings.straight_through:
        outs, state = _straight_through(settings, inner, patterns, trees, old, state, extra)
    else:
        outs, state = _stepping(settings, inner, patterns, trees, old, state, extra)
    return outs, state


_update_jit = jax.jit(_update, static_argnums=(0, 1))


def _stepping(
    settings: Settings,
    inner: optax.GradientTransformationExtraArgs,
    patterns: tuple[Pattern, ...],
    trees: Trees,
    old: list[Array],
    state: SparseState,
    extra: dict[str, Any],
) -> tuple[PyTree, SparseState]:
    """Mask update and optimizer step, in either order; the step is never skipped."""
    weights, grads = trees.ranked(trees.params), trees.ranked(trees.updates)
    found = _found(settings, inner, state.inner, trees)
    if settings.order == "before":
        shown = trees.tree(trees.params, _masked(weights, old))
        given = trees.tree(trees.updates, _masked(grads, old)) if settings.mask_gradients else None
        state = _zeroed(settings, found, trees, old, state)
        changed, inner_state = inner.update(
            trees.tree(trees.updates) if given is None else given, state.inner, shown, **extra
        )
        moved = trees.ranked(trees.treedef.flatten_up_to(changed))
        # what apply_updates would give, which is what the criterion sees
        stepped = [
            jnp.where(m, (w + u).astype(w.dtype), jnp.zeros((), w.dtype))
            for w, u, m in zip(weights, moved, old, strict=True)
        ]
        state = dataclasses.replace(state, inner=inner_state)
        if not settings.mask_gradients:
            state = _zeroed(settings, found, trees, old, state)
        state, values = _gated(settings, patterns, trees, old, state, found, extra, stepped)
        new = _ranked_masks(state)
        outs = [
            _emitted(m, w, u if v is None else u + (v - s).astype(u.dtype))
            for m, w, u, s, v in zip(
                new, weights, moved, stepped, values or _nothing(new), strict=True
            )
        ]
        return trees.tree(trees.treedef.flatten_up_to(changed), outs), state

    state, values = _gated(settings, patterns, trees, old, state, found, extra, weights)
    new = _ranked_masks(state)
    state = _zeroed(settings, found, trees, new, state)
    shown = trees.tree(trees.params, values or _masked(weights, new))
    masked = _masked(grads, new) if settings.mask_gradients else grads
    changed, inner_state = inner.update(
        trees.tree(trees.updates, masked), state.inner, shown, **extra
    )
    state = dataclasses.replace(state, inner=inner_state)
    if not settings.mask_gradients:
        state = _zeroed(settings, found, trees, new, state)
    moved = trees.ranked(trees.treedef.flatten_up_to(changed))
    outs = [
        _emitted(m, w, u if v is None else u + (v - w).astype(u.dtype))
        for m, w, u, v in zip(new, weights, moved, values or _nothing(new), strict=True)
    ]
    return trees.tree(trees.treedef.flatten_up_to(changed), outs), state


def _skipping(
    settings: Settings,
    inner: optax.GradientTransformationExtraArgs,
    patterns: tuple[Pattern, ...],
    trees: Trees,
    old: list[Array],
    state: SparseState,
    extra: dict[str, Any],
) -> tuple[PyTree, SparseState]:
    """A mask update takes the place of an optimizer step."""
    weights, grads = trees.ranked(trees.params), trees.ranked(trees.updates)
    found = _found(settings, inner, state.inner, trees)
    due = settings.timing.due(state.count)
    state, values = _gated(settings, patterns, trees, old, state, found, extra, weights)
    new = _ranked_masks(state)
    # the optimizer steps at a mask update too, and what it says is not taken: a choice between two
    # results is fused with what computes them, and a conditional would copy state and updates
    trained = _zeroed(settings, found, trees, new, state)
    given = _masked(grads, new) if settings.mask_gradients else grads
    changed, inner_state = inner.update(
        trees.tree(trees.updates, given),
        trained.inner,
        trees.tree(trees.params, _masked(weights, new)),
        **extra,
    )
    trained = dataclasses.replace(trained, inner=inner_state)
    if not settings.mask_gradients:
        trained = _zeroed(settings, found, trees, new, trained)
    inner_state = _chosen(due, state.inner, trained.inner)
    leaves = [
        jnp.where(due, jnp.zeros((), u.dtype), u) for u in trees.treedef.flatten_up_to(changed)
    ]
    outs = [
        _emitted(m, w, u if v is None else u + (v - w).astype(u.dtype))
        for m, w, u, v in zip(
            new, weights, trees.ranked(leaves), values or _nothing(new), strict=True
        )
    ]
    return trees.tree(leaves, outs), dataclasses.replace(state, inner=inner_state)


def _straight_through(
    settings: Settings,
    inner: optax.GradientTransformationExtraArgs,
    patterns: tuple[Pattern, ...],
    trees: Trees,
    old: list[Array],
    state: SparseState,
    extra: dict[str, Any],
) -> tuple[PyTree, SparseState]:
    """Train dense parameters with the gradients of the masked ones, and emit the way to their masked values."""
    assert state.latent is not None
    latent = state.latent
    changed, inner_state = inner.update(
        trees.tree(trees.updates), state.inner, trees.tree(trees.params, latent), **extra
    )
    moved = trees.ranked(trees.treedef.flatten_up_to(changed))
    latent = [(x + u).astype(x.dtype) for x, u in zip(latent, moved, strict=True)]
    now = connections(state, old)
    goal = targets(settings, state)

    def select(now: Connections) -> tuple[Connections]:
        return (select_anew(patterns, goal, now, latent),)

    (now,) = _if(settings.timing.due(state.count), select, now)
    weights = trees.ranked(trees.params)
    outs = [
        _emitted(m, w, (x - w).astype(jnp.promote_types(u.dtype, w.dtype)))
        for m, w, x, u in zip(now.masks, weights, latent, moved, strict=True)
    ]
    state = dataclasses.replace(_with(settings, state, now), inner=inner_state, latent=latent)
    return trees.tree(trees.treedef.flatten_up_to(changed), outs), state


def _gated(
    settings: Settings,
    patterns: tuple[Pattern, ...],
    trees: Trees,
    old: list[Array],
    state: SparseState,
    found: list[Follower] | None,
    extra: dict[str, Any],
    weights: list[Array],
) -> tuple[SparseState, list[Array] | None]:
    """Update the masks if it is time; return the state and the weights where they change."""
    state = remember(settings, trees, old, state, weights)
    now = connections(state, old)
    if settings.changes_values:
        now = now._replace(values=_masked(weights, old))

    due = settings.timing.due(state.count)
    averages = settings.opt_state == "mean"

    def rewire(now: Connections, inner_state: PyTree) -> tuple[Connections, PyTree]:
        after = refreshed(settings, patterns, trees, old, state, found, extra, weights, now)
        if averages:
            changed = dataclasses.replace(state, inner=inner_state)
            inner_state = _averaged(found, trees, now.masks, after.masks, changed).inner
        return after, inner_state

    now, inner_state = _if(due, rewire, now, state.inner if averages else None)
    state = _with(settings, state, now)
    if averages:
        state = dataclasses.replace(state, inner=inner_state)
    since = jnp.where(due, jnp.int32(0), optax.safe_increment(state.since))
    return dataclasses.replace(state, since=since), now.values


def _if(due: Array, change: Callable[..., Any], *now: Any) -> Any:
    """Change what is changed, in place, if it is time.

    A conditional copies what passes through it at every step, and what leaves it again; a loop of no or one round
    carries masks in place. Floats pass through a conditional, which can be differentiated backwards.
    """
    if any(jnp.issubdtype(x.dtype, jnp.inexact) for x in jax.tree.leaves(now)):
        return lax.cond(due, change, _unchanged, *now)

    def once(carry: tuple[Array, Any]) -> tuple[Array, Any]:
        return jnp.zeros_like(carry[0]), change(*carry[1])

    return lax.while_loop(lambda carry: carry[0], once, (due, now))[1]


def _unchanged(*now: Any) -> Any:
    return now


def _chosen(due: Array, ours: PyTree, theirs: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(due, a, b), ours, theirs)


def _found(
    settings: Settings, inner: Any, inner_state: PyTree, trees: Trees
) -> list[Follower] | None:
    moments_read = settings.needs & {"momentum", "second_moment"}
    if (settings.opt_state == "keep" and not moments_read) or not trees.at:
        return None
    return followers(inner, inner_state, trees.tree(trees.params))


def _zeroed(
    settings: Settings,
    found: list[Follower] | None,
    trees: Trees,
    masks: list[Array],
    state: SparseState,
) -> SparseState:
    """Zero the inner state where the masks prune: what grows then starts from zero.

    It goes before the optimizer's step, where the compiler fuses it with the step. With masked gradients the
    state stays zero there, and otherwise it is zeroed after the step too. Resetting new connections would read the
    old masks beyond the mask update, which costs a copy of them at every step.
    """
    if found is None or settings.opt_state not in ("reset", "mask"):
        return state
    by_index = dict(zip(trees.at, masks, strict=True))
    return dataclasses.replace(state, inner=zeroed(state.inner, found, by_index))


def _averaged(
    found: list[Follower] | None,
    trees: Trees,
    old: list[Array],
    new: list[Array],
    state: SparseState,
) -> SparseState:
    if found is None:
        return state
    before = dict(zip(trees.at, old, strict=True))
    after = dict(zip(trees.at, new, strict=True))
    return dataclasses.replace(state, inner=averaged(state.inner, found, before, after))


def _nothing(leaves: Sequence[Any]) -> list[Any]:
    return [None] * len(leaves)


def _masked(leaves: Sequence[Array], masks: Sequence[Array]) -> list[Array]:
    return [jnp.where(m, x, jnp.zeros((), x.dtype)) for x, m in zip(leaves, masks, strict=True)]


def _emitted(mask: Array, weight: Array, change: Array) -> Array:
    """The update: what the optimizer says, and minus the weight where it is pruned."""
    dtype = jnp.promote_types(change.dtype, weight.dtype)  # exact in the weight's own precision
    return jnp.where(mask, change.astype(dtype), -weight.astype(dtype))


def _with(settings: Settings, state: SparseState, now: Connections) -> SparseState:
    """Return the state with these connections."""
    ranked = iter(now.masks)
    leaves, treedef = jax.tree.flatten(state.masks, is_leaf=_is_packed)
    masks = jax.tree.unflatten(
        treedef,
        [_stored(m, next(ranked)) if _is_packed(m) or m.ndim else m for m in leaves],
    )
    return dataclasses.replace(
        state,
        masks=masks,
        counts=now.counts,
        leaked=now.leaked,
        nonfinite=now.nonfinite,
        fired=now.fired,
    )


def _stored(like: Any, mask: Array) -> Any:
    # packed along the axis that was chosen at the start, when shards were known
    return pack(mask, axis=like.axis) if _is_packed(like) else mask


def _ranked_masks(state: SparseState) -> list[Array]:
    return [m for m in jax.tree.leaves(unpack(state.masks)) if m.ndim]


def _is_packed(node: Any) -> bool:
    return isinstance(node, PackedMask)
