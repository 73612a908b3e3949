"""One update of sparse training: the gate, the inner optimizer, and zeros that stay zeros."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, PyTree

from wormjax._masks import check_same_structure
from wormjax._packing import PackedMask, pack, unpack
from wormjax._paths import leaf_names
from wormjax.dst._followers import Follower, averaged, followers, zeroed
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
    state = dataclasses.replace(state, count=optax.safe_increment(state.count))
    given = Given(
        settings, inner, patterns, trees, _found(settings, inner, state.inner, trees), extra
    )
    if settings.straight_through:
        return _straight_through(given, state)
    return (_after if settings.order == "after" else _in_turn)(given, state)


_update_jit = jax.jit(_update, static_argnums=(0, 1))


class Given(NamedTuple):
    """What an update reads at every step."""

    settings: Settings
    inner: optax.GradientTransformationExtraArgs
    patterns: tuple[Pattern, ...]
    trees: Trees
    found: list[Follower] | None
    extra: dict[str, Any]


def _after(given: Given, state: SparseState) -> tuple[PyTree, SparseState]:
    """The mask update where it is time, and the optimizer's step under the new masks, always."""
    settings, trees = given.settings, given.trees
    weights, old = trees.ranked(trees.params), _ranked_masks(state)
    state = remember(settings, trees, old, state)
    averages = settings.opt_state == "mean"

    def rewire(now: Connections, inner_state: PyTree) -> tuple[Connections, PyTree]:
        return _rewired(given, state, weights, now, inner_state)

    due = settings.timing.due(state.count)
    now = _connected(settings, state, weights)
    now, inner_state = _if(due, rewire, now, state.inner if averages else None)
    state = _with(settings, state, now)
    if averages:
        state = dataclasses.replace(state, inner=inner_state)
    leaves, state = _stepped(given, trees.updates, state, now.values)
    leaves = _moved(trees, leaves, weights, now.values)
    return _emitted(trees, leaves, state), _counted(state, due)


def _in_turn(given: Given, state: SparseState) -> tuple[PyTree, SparseState]:
    """The mask update in place of the optimizer's step ("skip"), or following it ("before").

    A loop of no or one round for a step with a mask update, and one for a step without: nothing is computed that
    is not taken, and the updates come to lie where the gradients were, so that nothing is copied either.
    """
    settings, trees = given.settings, given.trees
    weights = trees.ranked(trees.params)
    skips = settings.order == "skip"
    if skips:
        state = remember(settings, trees, _ranked_masks(state), state)

    def step(carry: Carry) -> Carry:
        grads, masks = _gradients(trees, carry.leaves), _ranked_masks(carry.state)
        leaves, state = _stepped(given, grads, carry.state)
        if not skips:
            seen = _applied(weights, trees.ranked(leaves), masks)
            state = remember(settings, trees._replace(updates=grads), masks, state, seen)
        return Carry(leaves, state)

    def move(carry: Carry) -> Carry:
        grads, masks = _gradients(trees, carry.leaves), _ranked_masks(carry.state)
        if skips:
            leaves, state, seen = carry.leaves, carry.state, weights
            if settings.changes_values:
                leaves = [jnp.zeros_like(u) for u in leaves]
        else:
            leaves, state = step(carry)
            seen = _applied(weights, trees.ranked(leaves), masks)
        now, inner_state = _rewired(
            given._replace(trees=trees._replace(updates=grads)),
            state,
            seen,
            _connected(settings, state, seen),
            state.inner,
        )
        state = dataclasses.replace(_with(settings, state, now), inner=inner_state)
        return Carry(_moved(trees, leaves, seen, now.values), state)

    due = settings.timing.due(state.count)
    kinds, _ = jax.eval_shape(lambda: _stepped(given, trees.updates, state))
    room = [
        u if u.dtype == k.dtype else jnp.zeros(k.shape, k.dtype)
        for u, k in zip(trees.updates, kinds, strict=True)
    ]
    carry = _once(due, move, Carry(room, state))
    leaves, state = _once(~due, step, carry)
    if skips and not settings.changes_values:
        # here it is fused with what follows, and takes no memory
        leaves = [jnp.where(due, jnp.zeros((), u.dtype), u) for u in leaves]
    return _emitted(trees, leaves, state), _counted(state, due)


class Carry(NamedTuple):
    """What a step changes: gradients that become updates, by leaf, and the state."""

    leaves: list[Array]
    state: SparseState


def _gradients(trees: Trees, leaves: list[Array]) -> list[Array]:
    """The gradients where they lie; those of another type than their updates never moved there."""
    return [x if x.dtype == u.dtype else u for x, u in zip(leaves, trees.updates, strict=True)]


def _stepped(
    given: Given, grads: list[Array], state: SparseState, values: list[Array] | None = None
) -> tuple[list[Array], SparseState]:
    """Return the optimizer's updates by leaf under the masks of the state, and the state after them.

    The inner state is zeroed where the masks prune, so that what grows starts from zero. That goes before the
    optimizer's step, where the compiler fuses it with the step. With masked gradients the state stays zero there, and
    otherwise it is zeroed after the step too. Resetting new connections would read the old masks beyond the mask
    update, which costs a copy of them at every step.
    """
    settings, inner, _, trees, found, extra = given
    masks = _ranked_masks(state)
    ranked = trees.ranked(grads)

    def reset(inner_state: PyTree) -> PyTree:
        if found is None or settings.opt_state not in ("reset", "mask"):
            return inner_state
        return zeroed(inner_state, found, dict(zip(trees.at, masks, strict=True)))

    changed, inner_state = inner.update(
        trees.tree(grads, _masked(ranked, masks) if settings.mask_gradients else ranked),
        reset(state.inner),
        trees.tree(trees.params, values or _masked(trees.ranked(trees.params), masks)),
        **extra,
    )
    if not settings.mask_gradients:
        inner_state = reset(inner_state)
    return trees.treedef.flatten_up_to(changed), dataclasses.replace(state, inner=inner_state)


def _rewired(
    given: Given, state: SparseState, seen: list[Array], now: Connections, inner_state: PyTree
) -> tuple[Connections, PyTree]:
    """The mask update: the connections after it, and the inner state where new ones take the mean of the others."""
    settings, _, patterns, trees, found, extra = given
    after = refreshed(settings, patterns, trees, now.masks, state, found, extra, seen, now)
    if settings.opt_state == "mean" and found is not None:
        old, new = (dict(zip(trees.at, m, strict=True)) for m in (now.masks, after.masks))
        inner_state = averaged(inner_state, found, old, new)
    return after, inner_state


def _connected(settings: Settings, state: SparseState, seen: list[Array]) -> Connections:
    """The connections before a mask update, with the weights where it changes them."""
    now = connections(state, _ranked_masks(state))
    return now._replace(values=_masked(seen, now.masks)) if settings.changes_values else now


def _applied(weights: list[Array], moved: list[Array], masks: list[Array]) -> list[Array]:
    """What `optax.apply_updates` would give, which is what a criterion sees after the step."""
    return [
        jnp.where(m, (w + u).astype(w.dtype), jnp.zeros((), w.dtype))
        for w, u, m in zip(weights, moved, masks, strict=True)
    ]


def _moved(
    trees: Trees, leaves: list[Array], seen: list[Array], values: list[Array] | None
) -> list[Array]:
    """The updates with what a mask update did to the weights that it saw."""
    if values is None:
        return leaves
    ranked = [
        u + (v - s).astype(u.dtype)
        for u, v, s in zip(trees.ranked(leaves), values, seen, strict=True)
    ]
    return jax.tree.leaves(trees.tree(leaves, ranked))


def _emitted(trees: Trees, leaves: list[Array], state: SparseState) -> PyTree:
    """The updates: what the optimizer says, and minus the weight where it is pruned."""
    weights, masks = trees.ranked(trees.params), _ranked_masks(state)
    ranked = []
    for mask, w, u in zip(masks, weights, trees.ranked(leaves), strict=True):
        dtype = jnp.promote_types(u.dtype, w.dtype)  # exact in the weight's own precision
        ranked.append(jnp.where(mask, u.astype(dtype), -w.astype(dtype)))
    return trees.tree(leaves, ranked)


def _counted(state: SparseState, due: Array) -> SparseState:
    """The state with the steps since the last mask update."""
    since = jnp.where(due, jnp.int32(0), optax.safe_increment(state.since))
    return dataclasses.replace(state, since=since)


def _straight_through(given: Given, state: SparseState) -> tuple[PyTree, SparseState]:
    """Train dense parameters with the gradients of the masked ones, and emit the way to their masked values."""
    settings, inner, patterns, trees, _, extra = given
    assert state.latent is not None
    changed, inner_state = inner.update(
        trees.tree(trees.updates), state.inner, trees.tree(trees.params, state.latent), **extra
    )
    leaves = trees.treedef.flatten_up_to(changed)
    moved = trees.ranked(leaves)
    latent = [(x + u).astype(x.dtype) for x, u in zip(state.latent, moved, strict=True)]
    goal = targets(settings, state)

    def select(now: Connections) -> tuple[Connections]:
        return (select_anew(patterns, goal, now, latent),)

    now = connections(state, _ranked_masks(state))
    (now,) = _if(settings.timing.due(state.count), select, now)
    state = dataclasses.replace(_with(settings, state, now), inner=inner_state, latent=latent)
    way = [
        (x - w).astype(jnp.promote_types(u.dtype, w.dtype))
        for w, x, u in zip(trees.ranked(trees.params), latent, moved, strict=True)
    ]
    return _emitted(trees, jax.tree.leaves(trees.tree(leaves, way)), state), state


def _if(due: Array, change: Callable[..., Any], *now: Any) -> Any:
    """Change what is changed, in place, if it is time.

    A conditional copies what passes through it at every step, and what leaves it again; a loop of no or one round
    carries masks in place. Floats pass through a conditional, which can be differentiated backwards.
    """
    if any(jnp.issubdtype(x.dtype, jnp.inexact) for x in jax.tree.leaves(now)):
        return lax.cond(due, change, lambda *now: now, *now)
    return _once(due, lambda now: change(*now), now)


def _once(due: Array, change: Callable[[Any], Any], now: Any) -> Any:
    """Change what is changed, in place, if it is time: a loop of no or one round."""

    def body(carry: tuple[Array, Any]) -> tuple[Array, Any]:
        return jnp.zeros_like(carry[0]), change(carry[1])

    return lax.while_loop(lambda carry: carry[0], body, (due, now))[1]


def _found(
    settings: Settings, inner: Any, inner_state: PyTree, trees: Trees
) -> list[Follower] | None:
    moments_read = settings.needs & {"momentum", "second_moment"}
    if (settings.opt_state == "keep" and not moments_read) or not trees.at:
        return None
    return followers(inner, inner_state, trees.tree(trees.params))


def _masked(leaves: Sequence[Array], masks: Sequence[Array]) -> list[Array]:
    return [jnp.where(m, x, jnp.zeros((), x.dtype)) for x, m in zip(leaves, masks, strict=True)]


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
