"""The masks that sparse training starts with."""

import functools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jaxtyping import Array, Key

from wormjax.dst._patterns import Pattern, Unstructured, kept_in_segment, top
from wormjax.dst._refresh import widened
from wormjax.dst._seen import finite
from wormjax.dst.distributions import NAMED, Distribution, named
from wormjax.dst.distributions._capped import capped
from wormjax.dst.distributions._layers import Custom, custom_densities
from wormjax.dst.distributions._sample import kept_with_probability
from wormjax.scores._protocol import Layout, Leaf

Initial = Literal["random", "magnitude", "bernoulli"]


def distribution_of(distribution: str | Distribution) -> Distribution:
    """Return the distribution that a name or a function stands for.

    Raises:
      ValueError: an unknown name.
      TypeError: neither a name nor a function.
    """
    if isinstance(distribution, str):
        return named(distribution)
    if distribution in NAMED.values():
        name = getattr(distribution, "__name__", "")
        raise TypeError(f"distribution is the function {name} itself: call it, {name}().")
    if not callable(distribution):
        raise TypeError(f"distribution must be a name or a function, got {distribution!r}.")
    return distribution


def units_kept(
    distribution: Distribution,
    layout: Layout,
    patterns: Sequence[Pattern],
    density: Fraction,
    most: Mapping[str, Fraction],
) -> tuple[Any, ...]:
    """Return how many units every segment of every prunable leaf keeps at this density, and at most its bound.

    Raises:
      TypeError: there are bounds or patterns, and counts that are being traced.
      ValueError: the distribution returns other counts than one for each prunable leaf, from 0 to its size.
    """
    params = layout.params({})
    may = layout.params({leaf.index: leaf.ranked for leaf in layout.leaves})
    entries = tuple(distribution(params, may, density))
    if len(entries) != len(layout.ranked):
        raise ValueError(
            f"The distribution returned {len(entries)} counts for {len(layout.ranked)} prunable leaves. It must return "
            "one for each, in flatten order."
        )
    for leaf, count in zip(layout.ranked, entries, strict=True):
        # counts of scores that are being traced cannot be looked at
        if not isinstance(count, jax.core.Tracer) and not 0 <= count <= leaf.value.size:
            raise ValueError(
                f"The distribution keeps {count} entries of {leaf.name!r}, which has {leaf.value.size}."
            )
    if most:
        sizes = [leaf.value.size for leaf in layout.ranked]
        names = [leaf.name for leaf in layout.ranked]
        for name, count in zip(names, entries, strict=True):
            _check_known(name, count, "max_density needs to know it")
        entries = capped(entries, sizes, names, most)
    return tuple(
        _units(p, leaf, count)
        for p, leaf, count in zip(patterns, layout.ranked, entries, strict=True)
    )


def _units(pattern: Pattern, leaf: Leaf, count: Any) -> Any:
    if not isinstance(count, jax.core.Tracer):
        return kept_in_segment(pattern, leaf.value.shape, count)
    if not isinstance(pattern, Unstructured):
        _check_known(leaf.name, count, f"the pattern {pattern} needs to know it")
    return count


def _check_known(name: str, count: Any, why: str) -> None:
    if isinstance(count, jax.core.Tracer):
        raise TypeError(
            f"The distribution's count for {name!r} depends on arrays that are being traced, and {why}. Call init "
            "outside of jax.jit."
        )


def bounds_of(most: Any, layout: Layout) -> dict[str, Fraction]:
    """Return the largest density of prunable leaves by name; of those that have none, none."""
    if most is None:
        return {}
    by_rule: Custom = most if isinstance(most, Mapping) else {".*": most}
    return custom_densities(layout.params({}), layout.ranked, by_rule)


def units_at_most(
    most: Mapping[str, Fraction], layout: Layout, patterns: Sequence[Pattern], kept: Any
) -> Array:
    """Return how many units of a segment every prunable leaf may keep.

    Raises:
      ValueError: a leaf keeps more units than that already, where their number is known.
    """
    bounds = []
    for i, (leaf, pattern) in enumerate(zip(layout.ranked, patterns, strict=True)):
        segments, units, _ = pattern.layout(leaf.value.shape)
        bound = math.floor(most.get(leaf.name, Fraction(1)) * units)
        if not isinstance(kept, jax.core.Tracer) and int(kept[i]) > bound:
            raise ValueError(
                f"{leaf.name!r} keeps {int(kept[i])} units of {units} in each of {segments} segments, and max_density "
                f"allows {bound}. Raise it, or start with other masks or another pattern."
            )
        bounds.append(bound)
    return jnp.array(bounds, jnp.int32)


def draw(
    how: Initial,
    key: Key[Array, ""],
    patterns: Sequence[Pattern],
    leaves: Sequence[Any],
    counts: Array,
) -> list[Array]:
    """Return masks at random places or at the largest weights, sharded as their parameters.

    Counts are exact, but under ``"bernoulli"``.
    """
    return [
        sharded_like(_drawn(how, pattern, key, jnp.int32(i), x, counts[i]), x)
        for i, (pattern, x) in enumerate(zip(patterns, leaves, strict=True))
    ]


@functools.partial(jax.jit, static_argnums=(0, 1))  # compiled once for all leaves of one shape
def _drawn(
    how: Initial, pattern: Pattern, key: Array, leaf: Array, x: Array, count: Array
) -> Array:
    # step 0: mask updates fold steps from 1 on
    own = jax.random.fold_in(jax.random.fold_in(key, 0), leaf)
    if how == "bernoulli":
        return kept_with_probability(own, x.shape, count)
    if how == "magnitude":
        scores = pattern.units(finite(jnp.abs(widened(x))))
    else:
        segments, units, _ = pattern.layout(x.shape)
        shape = x.shape if isinstance(pattern, Unstructured) else (segments, units)
        scores = jax.random.uniform(own, shape, jnp.float32)
    return pattern.spread(top(scores, count, pattern), x.shape)


def sharded_like(mask: Array, leaf: Any) -> Array:
    """Return the mask where its parameter is; under automatic sharding inside jit the compiler decides."""
    if isinstance(leaf, jax.core.Tracer):
        sharding = jax.typeof(leaf).sharding
        explicit = AxisType.Explicit in getattr(sharding.mesh, "axis_types", ())
        return jax.sharding.reshard(mask, sharding) if explicit else mask
    sharding = getattr(leaf, "sharding", None)
    if isinstance(sharding, NamedSharding) and not isinstance(mask, jax.core.Tracer):
        return jax.device_put(mask, sharding)
    return mask


def counted(mask: Array, pattern: Pattern, name: str) -> Array:
    """Return how many units every segment of a given mask keeps.

    Raises:
      ValueError: the mask, where it is concrete, does not follow the pattern.
    """
    if isinstance(pattern, Unstructured):
        return jnp.sum(mask, dtype=jnp.int32)
    bits = pattern.units(mask.astype(jnp.float32)) > 0
    kept = jnp.sum(bits, axis=1, dtype=jnp.int32)
    if not isinstance(mask, jax.core.Tracer):
        whole = np.array_equal(pattern.spread(bits, mask.shape), mask)
        if not whole or len(set(np.asarray(kept).tolist())) > 1:
            raise ValueError(
                f"The mask at {name!r} does not follow the pattern {pattern}: every segment must keep the same number "
                "of whole units. Build it with that pattern, or pass no masks."
            )
    return kept[0]
