"""What a step of sparse training observes: parameters by leaf, averages, curvature, and the mask update they feed."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from wormjax.dst._followers import FIRST_MOMENTS, SECOND_MOMENTS, Follower, moments
from wormjax.dst._patterns import Pattern
from wormjax.dst._refresh import Connections, Observed, refresh, widened
from wormjax.dst._settings import Settings
from wormjax.dst._shares import floor_share
from wormjax.dst._state import SparseState


class Trees(NamedTuple):
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


def refreshed(
    settings: Settings,
    patterns: tuple[Pattern, ...],
    trees: Trees,
    old: list[Array],
    state: SparseState,
    found: list[Follower] | None,
    extra: dict[str, Any],
    weights: list[Array],
    now: Connections | None = None,
) -> Connections:
    """The mask update itself; runs when it is time only."""
    needs = settings.needs
    at = trees.at
    first = second = None
    if found is not None and needs & {"momentum", "second_moment"}:
        first = moments(state.inner, found, at, FIRST_MOMENTS)
        second = moments(state.inner, found, at, SECOND_MOMENTS)
    observed = Observed(
        weights=weights,
        gradients=average(settings, trees, state),
        momentum=first,
        second_moment=second,
        running=state.running,
        curvature=curvature(trees, weights, extra) if "curvature" in needs else None,
    )
    return refresh(
        settings,
        patterns,
        state.count,
        state.key,
        targets(settings, state),
        connections(state, old) if now is None else now,
        observed,
        state.most,
    )


def remember(
    settings: Settings,
    trees: Trees,
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
        now = connections(state, old)
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


def average(settings: Settings, trees: Trees, state: SparseState) -> list[Array]:
    if state.gradients is None:
        return trees.ranked(trees.updates)
    if settings.accumulate != "mean":
        return state.gradients
    steps = (state.since + 1).astype(jnp.float32)
    return [g / steps.astype(g.dtype) for g in state.gradients]


def curvature(trees: Trees, weights: list[Array], extra: dict[str, Any]) -> list[Array] | None:
    """Hessian times gradient of ``value_fn`` at the parameters, with respect to the prunable leaves."""
    value: Callable | None = extra.get("value_fn")
    if value is None:
        return None
    slope = jax.grad(lambda ranked: value(trees.tree(trees.params, ranked)))
    return jax.jvp(slope, (weights,), (slope(weights),))[1]


def targets(settings: Settings, state: SparseState) -> Array:
    """Units that every segment shall keep after a mask update at this step."""
    if settings.ramp is None or state.targets is None:
        return state.counts
    timing = settings.timing
    passed = settings.ramp(state.count, jnp.int32(timing.start), jnp.int32(timing.stop))
    first, last = state.targets[0], state.targets[1]
    down = floor_share(passed, jnp.maximum(first - last, 0))
    return first - down + floor_share(passed, jnp.maximum(last - first, 0))


def connections(state: SparseState, masks: list[Array]) -> Connections:
    return Connections(masks, state.counts, state.leaked, state.nonfinite, state.fired, None)
