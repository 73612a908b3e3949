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
from wormjax.dst._followers import (
    FIRST_MOMENTS,
    SECOND_MOMENTS,
    Follower,
    averaged,
    followers,
    moments,
    zeroed,
)
from wormjax.dst._patterns import Pattern
from wormjax.dst._refresh import Connections, Observed, refresh, select_anew, widened
from wormjax.dst._settings import Settings
from wormjax.dst._shares import floor_share
from wormjax.dst._state import SparseState


class _Trees(NamedTuple):
    """Parameters and updates by leaf; ``at`` are the indices of the prunable ones."""

    treedef: Any
    params: list[Any]
    updates: list[Any]
    at: list[int]

    def tree(self, leaves: list[Any], ranked: Sequence[Any] | None = None) -> PyTree:
        """Return the tree of ``leaves`` with the prunable ones replaced."""
        if ranked is not None:
            leaves = list(leaves)
            for i, x in zip(self.at, ranked, strict=True):
                leaves[i] = x
        return self.treedef.unflatten(leaves)

    def ranked(self, leaves: Sequence[Any]) -> list[Any]:
        """Return the prunable ones."""
        return [leaves[i] for i in self.at]


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
    trees = _Trees(treedef, params_leaves, jax.tree.leaves(updates), at)
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
    trees: _Trees,
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
    trees: _Trees,
    old: list[Array],
    state: SparseState,
    extra: dict[str, Any],
) -> tuple[PyTree, SparseState]:
    """A mask update takes the place of an optimizer step: one conditional with both in it."""
    weights, grads = trees.ranked(trees.params), trees.ranked(trees.updates)
    found = _found(settings, inner, state.inner, trees)
    state = _remember(settings, trees, old, state)

    def train(state: SparseState) -> tuple[PyTree, SparseState]:
        state = _zeroed(settings, found, trees, old, state)
        given = _masked(grads, old) if settings.mask_gradients else grads
        changed, inner_state = inner.update(
            trees.tree(trees.updates, given),
            state.inner,
            trees.tree(trees.params, _masked(weights, old)),
            **extra,
        )
        moved = trees.ranked(trees.treedef.flatten_up_to(changed))
        outs = [_emitted(m, w, u) for m, w, u in zip(old, weights, moved, strict=True)]
        state = dataclasses.replace(
            state, inner=inner_state, since=optax.safe_increment(state.since)
        )
        if not settings.mask_gradients:
            state = _zeroed(settings, found, trees, old, state)
        return trees.tree(trees.treedef.flatten_up_to(changed), outs), state

    like = jax.eval_shape(train, state)[0]

    def rewire(state: SparseState) -> tuple[PyTree, SparseState]:
        now = _refreshed(settings, patterns, trees, old, state, found, extra, weights)
        state = dataclasses.replace(_with(settings, state, now), since=jnp.int32(0))
        if settings.opt_state == "mean":
            state = _averaged(found, trees, old, now.masks, state)
        still = [jnp.zeros(x.shape, x.dtype) for x in jax.tree.leaves(like)]
        outs = [
            _emitted(m, w, z if v is None else z + (v - w).astype(z.dtype))
            for m, w, z, v in zip(
                now.masks,
                weights,
                trees.ranked(still),
                now.values or _nothing(weights),
                strict=True,
            )
        ]
        return trees.tree(still, outs), state

    return lax.cond(settings.timing.due(state.count), rewire, train, state)


def _straight_through(
    settings: Settings,
    inner: optax.GradientTransformationExtraArgs,
    patterns: tuple[Pattern, ...],
    trees: _Trees,
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
    now = _connections(state, old)
    targets = _targets(settings, state)

    def select(now: Connections) -> tuple[Connections]:
        return (select_anew(patterns, targets, now, latent),)

    (now,) = lax.cond(settings.timing.due(state.count), select, _unchanged, now)
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
    trees: _Trees,
    old: list[Array],
    state: SparseState,
    found: list[Follower] | None,
    extra: dict[str, Any],
    weights: list[Array],
) -> tuple[SparseState, list[Array] | None]:
    """Update the masks if it is time; return the state and the weights where they change."""
    state = _remember(settings, trees, old, state, weights)
    now = _connections(state, old)
    if settings.changes_values:
        now = now._replace(values=_masked(weights, old))

    due = settings.timing.due(state.count)
    # only what changes goes through the conditional: what passes through it is copied at every step
    averages = settings.opt_state == "mean"

    def rewire(now: Connections, inner_state: PyTree) -> tuple[Connections, PyTree]:
        after = _refreshed(settings, patterns, trees, old, state, found, extra, weights, now)
        if averages:
            changed = dataclasses.replace(state, inner=inner_state)
            inner_state = _averaged(found, trees, now.masks, after.masks, changed).inner
        return after, inner_state

    now, inner_state = lax.cond(due, rewire, _unchanged, now, state.inner if averages else None)
    state = _with(settings, state, now)
    if averages:
        state = dataclasses.replace(state, inner=inner_state)
    since = jnp.where(due, jnp.int32(0), optax.safe_increment(state.since))
    return dataclasses.replace(state, since=since), now.values


def _unchanged(*now: Any) -> Any:
    return now


def _refreshed(
    settings: Settings,
    patterns: tuple[Pattern, ...],
    trees: _Trees,
    old: list[Array],
    state: SparseState,
    found: list[Follower] | None,
    extra: dict[str, Any],
    weights: list[Array],
    now: Connections | None = None,
) -> Connections:
    """The mask update itself; runs inside the conditional."""
    needs = settings.needs
    at = trees.at
    first = second = None
    if found is not None and needs & {"momentum", "second_moment"}:
        first = moments(state.inner, found, at, FIRST_MOMENTS)
        second = moments(state.inner, found, at, SECOND_MOMENTS)
    observed = Observed(
        weights=weights,
        gradients=_average(settings, trees, state),
        momentum=first,
        second_moment=second,
        running=state.running,
        curvature=_curvature(trees, weights, extra) if "curvature" in needs else None,
    )
    return refresh(
        settings,
        patterns,
        state.count,
        state.key,
        _targets(settings, state),
        _connections(state, old) if now is None else now,
        observed,
    )


def _remember(
    settings: Settings,
    trees: _Trees,
    old: list[Array],
    state: SparseState,
    weights: list[Array] | None = None,
) -> SparseState:
    """Take this step into the averages of gradients and scores."""
    grads = [widened(g) for g in trees.ranked(trees.updates)]
    weights = trees.ranked(trees.params) if weights is None else weights
    fresh = state.since == 0
    if state.gradients is not None:
        decay: Any = settings.accumulate
        if decay == "mean":
            sums = [
                g + jnp.where(fresh, jnp.zeros((), a.dtype), a)
                for g, a in zip(grads, state.gradients, strict=True)
            ]
        else:
            sums = [
                decay * a + (1 - decay) * g for g, a in zip(grads, state.gradients, strict=True)
            ]
        state = dataclasses.replace(state, gradients=sums)
    if state.running is not None:
        beta: Any = settings.drop.running
        observed = Observed(weights, grads, None, None, None, None)
        now = _connections(state, old)
        scores = [
            settings.drop.instant(observed.seen(i, now, None)).astype(a.dtype)
            for i, a in enumerate(state.running)
        ]
        running = [
            jnp.where(fresh, s, beta * a + (1 - beta) * s)
            for s, a in zip(scores, state.running, strict=True)
        ]
        state = dataclasses.replace(state, running=running)
    return state


def _average(settings: Settings, trees: _Trees, state: SparseState) -> list[Array]:
    if state.gradients is None:
        return trees.ranked(trees.updates)
    if settings.accumulate != "mean":
        return state.gradients
    steps = (state.since + 1).astype(jnp.float32)
    return [g / steps.astype(g.dtype) for g in state.gradients]


def _curvature(trees: _Trees, weights: list[Array], extra: dict[str, Any]) -> list[Array] | None:
    """Hessian times gradient of ``value_fn`` at the parameters, with respect to the prunable leaves."""
    value: Callable | None = extra.get("value_fn")
    if value is None:
        return None
    slope = jax.grad(lambda ranked: value(trees.tree(trees.params, ranked)))
    return jax.jvp(slope, (weights,), (slope(weights),))[1]


def _targets(settings: Settings, state: SparseState) -> Array:
    """Units that every segment shall keep after a mask update at this step."""
    if settings.ramp is None or state.targets is None:
        return state.counts
    timing = settings.timing
    passed = settings.ramp(state.count, jnp.int32(timing.start), jnp.int32(timing.stop))
    first, last = state.targets[0], state.targets[1]
    down = floor_share(passed, jnp.maximum(first - last, 0))
    return first - down + floor_share(passed, jnp.maximum(last - first, 0))


def _found(
    settings: Settings, inner: Any, inner_state: PyTree, trees: _Trees
) -> list[Follower] | None:
    moments_read = settings.needs & {"momentum", "second_moment"}
    if (settings.opt_state == "keep" and not moments_read) or not trees.at:
        return None
    return followers(inner, inner_state, trees.tree(trees.params))


def _zeroed(
    settings: Settings,
    found: list[Follower] | None,
    trees: _Trees,
    masks: list[Array],
    state: SparseState,
) -> SparseState:
    """Zero the inner state where the masks prune: what grows then starts from zero.

    It goes before the optimizer's step, where the compiler fuses it with the step. With masked gradients the
    state stays zero there, and otherwise it is zeroed after the step too. Resetting new connections would read the
    old masks beyond the conditional, which costs a copy of them at every step.
    """
    if found is None or settings.opt_state not in ("reset", "mask"):
        return state
    by_index = dict(zip(trees.at, masks, strict=True))
    return dataclasses.replace(state, inner=zeroed(state.inner, found, by_index))


def _averaged(
    found: list[Follower] | None,
    trees: _Trees,
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


def _connections(state: SparseState, masks: list[Array]) -> Connections:
    return Connections(masks, state.counts, state.leaked, state.nonfinite, state.fired, None)


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
