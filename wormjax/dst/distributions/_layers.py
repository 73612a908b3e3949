"""What a distribution sees of a model: its prunable leaves, in flatten order."""

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from wormjax._counts import as_density, check_total
from wormjax._masks import check_same_structure
from wormjax._paths import leaf_names
from wormjax._prunable import Rule, prunable
from wormjax._selection import check_choice

Count: TypeAlias = int | Int[Array, ""]

Distribution: TypeAlias = Callable[[PyTree, PyTree, Fraction], tuple[Any, ...]]
"""``(params, may, density) -> counts``: how many entries each prunable leaf keeps, in flatten order.

``may`` is a tree of bools as `wj.prunable` returns. Counts are Python integers; those that depend on the
values of arrays that are being traced are int32 scalars.
"""

Custom: TypeAlias = Mapping[Rule, float | int | str | Fraction]

Rounding: TypeAlias = Literal["total", "rigl", "jaxpruner"]


class Layer(NamedTuple):
    """One prunable leaf: path, shape, entries, and whether its leading axis stacks layers."""

    name: str
    shape: tuple[int, ...]
    size: int
    stacked: bool

    @property
    def own_shape(self) -> tuple[int, ...]:
        """The shape of one layer."""
        return self.shape[1:] if self.stacked else self.shape


def layers_of(params: PyTree, may: PyTree, stacked: Rule | Sequence[Rule] = ()) -> list[Layer]:
    """Return the prunable leaves.

    Args:
      params: any pytree of arrays; shapes are read.
      may: tree of bools of the same structure.
      stacked: path rules of leaves that stack equal layers along their first axis, as `flax.nnx.scan` makes them.

    Raises:
      ValueError: structures differ; nothing is prunable; a prunable leaf is empty; or a rule fits no leaf.
    """
    check_same_structure(params, may, "params", "the prunable leaves")
    stacks = _matched(params, stacked)
    found = []
    names = leaf_names(params)
    leaves = zip(names, jax.tree.leaves(params), jax.tree.leaves(may), stacks, strict=True)
    for name, leaf, chosen, in_stack in leaves:
        if not chosen:
            continue
        shape = tuple(jnp.shape(leaf))
        if math.prod(shape) == 0:
            raise ValueError(
                f"The prunable leaf {name!r} has shape {shape} and no entries, so it has no density. Exclude it."
            )
        if in_stack and len(shape) < 2:
            raise ValueError(
                f"The leaf {name!r} has shape {shape}, which leaves nothing behind an axis of stacked layers. "
                "Take it out of stacked."
            )
        found.append(Layer(name, shape, math.prod(shape), in_stack))
    if not found:
        raise ValueError("No leaf is prunable, so there is nothing to distribute a density over.")
    check_total([layer.size for layer in found])
    return found


def custom_densities(params: PyTree, layers: Sequence[Any], custom: Custom) -> dict[str, Fraction]:
    """Return the densities that a map of path rules names, by layer name; the first rule that fits decides."""
    fixed: dict[str, Fraction] = {}
    for rule, value in custom.items():
        density = as_density(f"the density of {rule!r}", value)
        hits = _matched(params, rule)
        names = {n for n, hit in zip(leaf_names(params), hits, strict=True) if hit}
        for layer in layers:
            if layer.name in names:
                fixed.setdefault(layer.name, density)
    return fixed


def one_layer(params: PyTree, layers: Sequence[Layer], rule: Rule, what: str) -> str:
    """Return the name of the only prunable leaf that a rule fits."""
    hits = _matched(params, rule)
    names = {n for n, hit in zip(leaf_names(params), hits, strict=True) if hit}
    found = [layer.name for layer in layers if layer.name in names]
    if len(found) != 1:
        shown = ", ".join(map(repr, found)) or "none"
        raise ValueError(
            f"{what}={rule!r} must fit one prunable leaf and fits {shown}; the prunable leaves are "
            f"{', '.join(repr(layer.name) for layer in layers)}."
        )
    return found[0]


def check_rounding(rounding: str) -> None:
    """Raise where ``rounding`` is no known word."""
    check_choice("rounding", rounding, ("total", "rigl", "jaxpruner"))


def _matched(params: PyTree, rules: Any) -> list[bool]:
    if not isinstance(rules, str) and not callable(rules) and not rules:
        return [False] * len(jax.tree.leaves(params))
    return jax.tree.leaves(prunable(params, include=rules))
