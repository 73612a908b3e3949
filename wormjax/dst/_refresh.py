r"""One mask update: drop, then grow, in exact numbers.

For a leaf whose segments keep ``C`` units and shall keep ``T``, with drop fraction ``p``:

.. math:: r = \lceil p \min(C, T) \rceil, \qquad \text{keep } \min(C, T) - r \text{ of the active units},
    \qquad \text{grow } T - \text{kept}

Everything is selected by counting, nothing is sorted. All numbers of entries are int32.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from wormjax._counts import check_total
from wormjax._selection import largest
from wormjax.dst._normalisation import normalised, rescaled
from wormjax.dst._patterns import Pattern, Unstructured, top
from wormjax.dst._seen import Seen, finite
from wormjax.dst._settings import Settings
from wormjax.dst._shares import ceil_share, floor_share
from wormjax.dst.criteria._protocol import only
from wormjax.dst.growth import grow_by_neuron, share_out


class Connections(NamedTuple):
    """The masks and all that a mask update may change, by prunable leaf.

    Attributes:
      masks: bool.
      counts: int32 (leaves): units that every segment keeps.
      leaked: bool.
      nonfinite: bool (leaves).
      fired: bool, or None.
      values: the weights after the update, where it changes them; or None.
    """

    masks: list[Array]
    counts: Array
    leaked: Array
    nonfinite: Array
    fired: list[Array] | None
    values: list[Array] | None


class Observed(NamedTuple):
    """What a mask update reads, by prunable leaf; see `Seen`."""

    weights: list[Array]
    gradients: list[Array]
    momentum: list[Array] | None
    second_moment: list[Array] | None
    running: list[Array] | None
    curvature: list[Array] | None

    def seen(self, leaf: int, now: Connections, key: Any) -> Seen:
        """Return what a rule sees of one leaf."""

        def at(values: list[Array] | None) -> Any:
            return None if values is None else widened(values[leaf])

        fired: Any = None if now.fired is None else now.fired[leaf]
        weight = widened(self.weights[leaf])
        mask = now.masks[leaf]
        return Seen(
            weight=weight,
            mask=mask,
            gradient=at(self.gradients),
            momentum=at(self.momentum),
            second_moment=at(self.second_moment),
            running=at(self.running),
            curvature=at(self.curvature),
            fired=fired,
            key=key,
        )


def widened(x: Array) -> Array:
    """Return ``x`` in float32, or as it is if that is wider."""
    return x if x.dtype.itemsize >= 4 else x.astype(jnp.float32)


def refresh(
    settings: Settings,
    patterns: Sequence[Pattern],
    step: Array,
    key: Array,
    targets: Array,
    now: Connections,
    observed: Observed,
    most: Array | None = None,
) -> Connections:
    """Update the masks.

    Args:
      settings: of the transformation.
      patterns: by prunable leaf.
      step: int32, counted from 1.
      key: PRNG key.
      targets: int32 (leaves): units that every segment shall keep.
      now: the connections before.
      observed: weights, gradients and what else is known.
      most: int32 (leaves): units that no segment exceeds, where leaves share growth; or None.
    """
    if not now.masks:
        return now
    leaves = range(len(now.masks))
    shapes = [m.shape for m in now.masks]
    layouts = [p.layout(s) for p, s in zip(patterns, shapes, strict=True)]
    units = jnp.array([layout[1] for layout in layouts], jnp.int32)
    keys = [jax.random.fold_in(jax.random.fold_in(key, step), i) for i in leaves]
    leaked = now.leaked | (
        jnp.any(
            jnp.stack(
                [jnp.any((w != 0) & ~m) for w, m in zip(observed.weights, now.masks, strict=True)]
            )
        )
        # before the first update nobody may have masked the parameters
        & (step > 1)
    )

    views = [observed.seen(i, now, jax.random.fold_in(keys[i], 0)) for i in leaves]
    # a score that is cheap to compute is not stored: nothing of the size of a leaf is, but masks
    lean = (
        settings.drop.entrywise
        and settings.normalize is None
        and {settings.scope, settings.ramp_scope if settings.ramp else "leaf"} == {"leaf"}
    )
    pooled: list[Any] = []  # None where the score is not stored
    flags = []
    for seen, pattern in zip(views, patterns, strict=True):
        raw = settings.drop(seen)
        flags.append(jnp.any(~jnp.isfinite(raw) & seen.mask))
        if lean and isinstance(pattern, Unstructured):
            pooled.append(None)
            continue
        score = finite(raw.astype(seen.weight.dtype))
        if settings.normalize is not None:
            score = normalised(score, seen.mask, settings.normalize)
        pooled.append(pattern.units(score))
    nonfinite = jnp.stack(flags)
    active = [_bits(p, m) for p, m in zip(patterns, now.masks, strict=True)]

    counts = now.counts
    alive = active
    if settings.ramp is not None and settings.ramp_scope == "global":
        # first the ramp over all leaves together, then the rotation in every leaf
        alive = _keep_globally(
            settings, pooled, active, counts, jnp.minimum(jnp.sum(targets), jnp.sum(counts)), 0
        )
        counts = _count(alive)
        targets = counts

    base = jnp.minimum(counts, targets)
    turnover = jnp.zeros_like(base)
    if settings.grow is not None:
        fraction = settings.schedule(
            step, jnp.int32(settings.timing.start), jnp.int32(settings.timing.stop)
        )
        fraction = jnp.clip(jnp.asarray(fraction, jnp.float32), 0, 1)
        share = ceil_share if settings.rounding == "ceil" else floor_share
        turnover = jnp.minimum(share(fraction, base), jnp.maximum(base - settings.min_kept, 0))
    least = jnp.zeros_like(base)
    if not settings.allow_regrow_dropped:
        least = jnp.clip(targets - (units - counts), 0, counts)  # what cannot be replaced stays
    keep = jnp.maximum(base - turnover, least)
    if settings.scope == "global" and settings.grow is not None:
        stay = _keep_globally(settings, pooled, alive, counts, jnp.sum(keep), least)
    else:
        stay = [
            _highest(settings.drop, views[i], views[i].mask, keep[i])
            if pooled[i] is None
            else settings.drop.keep(
                [pooled[i]],
                [alive[i]],
                keep[i],
                counts[i] - keep[i],
                functools.partial(_choose_in_leaf, pattern=patterns[i]),
            )[0]
            for i in leaves
        ]

    if settings.grow is None:
        chosen = stay
        counts = keep
    else:
        # as many as are missing: some criteria of the references do not keep what they are told to;
        # where it is known it is not counted, because XLA:CPU stores what it counts as int32
        kept = jnp.stack(
            [
                keep[i]
                if layouts[i][0] > 1 or pooled[i] is None
                else jnp.sum(stay[i], dtype=jnp.int32)
                for i in leaves
            ]
        )
        missing = targets - kept
        free = [
            ~(s if settings.allow_regrow_dropped else a) for s, a in zip(stay, alive, strict=True)
        ]
        if settings.grow.shares is not None:
            room = _count(free) if most is None else jnp.minimum(_count(free), most - kept)
            missing = share_out(_values(settings, now, observed), jnp.sum(missing), room)
        chosen = [
            s | _grown(settings, patterns[i], now, observed, i, free[i], missing[i], keys[i])
            for i, s in enumerate(stay)
        ]
        counts = kept + missing

    masks = [p.spread(c, s) for p, c, s in zip(patterns, chosen, shapes, strict=True)]
    values = None
    if settings.changes_values:
        stayed = [p.spread(c, s) for p, c, s in zip(patterns, stay, shapes, strict=True)]
        values = [
            _new_values(
                settings, observed.seen(i, now, jax.random.fold_in(keys[i], 2)), s, m
            ).astype(observed.weights[i].dtype)
            for i, (s, m) in enumerate(zip(stayed, masks, strict=True))
        ]
    fired = now.fired
    if fired is not None:
        fired = [f | m for f, m in zip(fired, masks, strict=True)]
    return Connections(masks, counts, leaked, now.nonfinite | nonfinite, fired, values)


def select_anew(
    patterns: Sequence[Pattern], targets: Array, now: Connections, latent: Sequence[Array]
) -> Connections:
    """Return masks of the largest magnitudes of dense parameters, active or not."""
    if not now.masks:
        return now
    scores = [jnp.abs(widened(x)) for x in latent]
    flags = jnp.stack([jnp.any(~jnp.isfinite(s)) for s in scores])
    masks = [
        p.spread(top(p.units(finite(s)), targets[i], p), s.shape)
        for i, (p, s) in enumerate(zip(patterns, scores, strict=True))
    ]
    fired = now.fired
    if fired is not None:
        fired = [f | m for f, m in zip(fired, masks, strict=True)]
    return now._replace(masks=masks, counts=targets, nonfinite=now.nonfinite | flags, fired=fired)


def _bits(pattern: Pattern, mask: Array) -> Array:
    if isinstance(pattern, Unstructured):
        return mask
    return pattern.units(mask.astype(jnp.float32)) > 0


def _count(units: Sequence[Array]) -> Array:
    return jnp.stack([jnp.sum(u, dtype=jnp.int32) for u in units])


def _highest(rule: Callable[[Seen], Array], seen: Seen, among: Array, kept: Array) -> Array:
    """Select by a score that is computed in every pass."""
    none: Any = None

    def score(operands: tuple[Seen, Array]) -> Array:
        seen, among = operands
        return only(among, finite(rule(seen).astype(seen.weight.dtype)))

    return largest([(seen._replace(key=none), among)], kept, score=score)[0]


def _choose_globally(scores: Sequence[Array], kept: Array) -> list[Array]:
    return largest(scores, kept)


def _choose_in_leaf(scores: Sequence[Array], kept: Array, *, pattern: Pattern) -> list[Array]:
    return [top(scores[0], kept, pattern)]


def _keep_globally(
    settings: Settings,
    scores: Sequence[Array],
    active: Sequence[Array],
    counts: Array,
    kept: Array,
    least: Array | int,
) -> list[Array]:
    """Keep ``kept`` units of all leaves together, and of every leaf at least ``least`` and ``min_kept``."""
    check_total([s.size for s in scores])
    protected = jnp.minimum(jnp.maximum(least, settings.min_kept), counts)
    high = [jnp.array(jnp.finfo(s.dtype).max, s.dtype) for s in scores]
    guarded = [
        jnp.where(largest([only(a, s)], protected[i])[0], high[i], s)
        for i, (a, s) in enumerate(zip(active, scores, strict=True))
    ]
    kept = jnp.maximum(kept, jnp.sum(protected))
    return settings.drop.keep(guarded, active, kept, jnp.sum(counts) - kept, _choose_globally)


def _grown(
    settings: Settings,
    pattern: Pattern,
    now: Connections,
    observed: Observed,
    leaf: int,
    free: Array,
    count: Array,
    key: Array,
) -> Array:
    assert settings.grow is not None
    seen = observed.seen(leaf, now, jax.random.fold_in(key, 1))
    if settings.grow.entrywise and isinstance(pattern, Unstructured):
        return _highest(settings.grow, seen, free, count)
    score = finite(settings.grow(seen).astype(seen.weight.dtype))
    if settings.grow.by_neuron and free.ndim > 1:
        return grow_by_neuron(score, free, count)
    return top(only(free, pattern.units(score)), count, pattern)


def _values(settings: Settings, now: Connections, observed: Observed) -> Array:
    """What leaves share growth by: a mean over active entries, or their number."""
    assert settings.grow is not None
    assert settings.grow.shares is not None
    kind = settings.grow.shares
    if kind == "nonzero":
        return now.counts.astype(jnp.float32)
    means = []
    for i, mask in enumerate(now.masks):
        seen = observed.seen(i, now, None)
        seen.require(settings.grow.name, () if kind == "magnitude" else (kind,))
        x = {"magnitude": seen.weight, "momentum": seen.momentum, "gradient": seen.gradient}[kind]
        assert x is not None
        total = jnp.sum(jnp.where(mask, jnp.abs(x), jnp.zeros((), x.dtype)))
        size = jnp.maximum(jnp.sum(mask, dtype=jnp.int32), 1)
        means.append(total.astype(jnp.float32) / size.astype(jnp.float32))
    return jnp.stack(means)


def _new_values(settings: Settings, seen: Seen, stayed: Array, mask: Array) -> Array:
    """The weights after an update of the mask: what stayed, what came back, what is new."""
    zero = jnp.zeros((), seen.weight.dtype)
    weight = seen.weight
    if settings.rescale is not None:
        weight = rescaled(weight, stayed & seen.mask, settings.rescale)
    new = mask & ~(stayed if settings.zero_on_drop else seen.mask)
    start = zero if settings.grow_init is None else settings.grow_init(seen).astype(weight.dtype)
    return jnp.where(mask, jnp.where(new, start, weight), zero)
