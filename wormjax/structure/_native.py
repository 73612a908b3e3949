"""Which groups code that reads sizes off its arrays would compute differently when they are narrow.

A shrunk network is replayed: divisors stay as they were at full size, and reductions count what was removed. The same
program run natively on narrow arrays divides by narrow sizes. That is the same wherever a group meets contractions
and element-wise work only, and another thing where

- a reduction crosses it: LayerNorm, RMSNorm, a mean over the width;
- a list of positions speaks of its entries: ``x[:, order]``;
- a constant n, 1/n, sqrt(n) or 1/sqrt(n) of one of its axes scales what it makes: the 1/sqrt(d) of attention. A
  constant does not say where it comes from, so one that only looks like a size counts, too; sizes below 8 do not.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal, Var

from wormjax._source import source_line
from wormjax.structure._dims import Dim
from wormjax.structure._scopes import Place, jaxpr_of, places
from wormjax.structure._trace import Scope, Traced, shape_of

_REDUCTIONS = {
    *("reduce_sum", "reduce_prod", "reduce_max", "reduce_min"),
    *("reduce_and", "reduce_or", "reduce_xor"),
}
_VIEWS = {"transpose", "reshape", "convert_element_type", "squeeze", "broadcast_in_dim", "copy"}
_SCALES = {"mul", "div"}
_SMALLEST = 8


class Trait(NamedTuple):
    """What is known of a value.

    Attributes:
      number: the number that it is, or that all its entries are, where that is known while tracing.
      summed: the axes of the dot product that it is, or is a view of.
    """

    number: np.ndarray | None = None
    summed: tuple[Dim, ...] = ()


def size_bound(traced: Traced) -> dict[Dim, str]:
    """Return the atoms whose size the program uses, each with the first reason."""
    bound = _SizeBound(traced)
    bound.run(traced.scope, [Trait()] * len(jaxpr_of(traced.scope).invars))
    return bound.found


class _SizeBound:
    def __init__(self, traced: Traced):
        self.dims = traced.dims
        self.found: dict[Dim, str] = {}

    def run(self, scope: Scope, operands: Sequence[Trait]) -> list[Trait]:
        """Go over a scope, from the traits of its operands to those of its results."""
        jaxpr = jaxpr_of(scope)
        known = dict(zip(jaxpr.invars, operands, strict=True))
        for place in places(scope):
            traits = [_trait(known, v) for v in place.eqn.invars]
            known.update(zip(place.eqn.outvars, self.step(place, traits), strict=True))
        return [_trait(known, v) for v in jaxpr.outvars]

    def step(self, place: Place, traits: Sequence[Trait]) -> Sequence[Trait]:
        eqn, name = place.eqn, place.eqn.primitive.name
        nothing = [Trait()] * len(eqn.outvars)
        if place.inner:
            is_call = len(place.inner) == 1 and name != "scan"
            told: list[Trait] = []
            for inner in place.inner:
                n = len(jaxpr_of(inner).invars)
                told = self.run(inner, traits[len(traits) - n :] if is_call else [Trait()] * n)
            return told if is_call else nothing
        self.note_size(place, traits)
        if name == "dot_general":
            (left, _), _ = eqn.params["dimension_numbers"]
            return [Trait(summed=tuple(place.scope.of(eqn.invars[0])[k] for k in left))]
        if name in _VIEWS:
            return [Trait(_cast(eqn, traits[0].number), traits[0].summed)]
        numbers = [t.number for t in traits if t.number is not None]
        if numbers and len(numbers) == len(traits) and not shape_of(eqn.outvars[0]):
            return [Trait(_evaluated(eqn, numbers)), *nothing[1:]]
        return nothing

    def note_size(self, place: Place, traits: Sequence[Trait]) -> None:
        """Note what reduces an axis, or scales by what may be its size."""
        eqn, name, scope = place.eqn, place.eqn.primitive.name, place.scope
        at = f"{name} {source_line(eqn)}".strip()
        if name in _REDUCTIONS:
            axes = scope.of(eqn.invars[0])
            self.note([axes[k] for k in eqn.params["axes"]], f"{at} crosses it")
        elif place.position in scope.lists:
            dim = scope.of(eqn.invars[0])[eqn.params["dimension_numbers"].start_index_map[0]]
            self.note([dim], f"{at} reads it at a list of positions")
        elif name in _SCALES:
            for (variable, trait), other in zip(
                zip(eqn.invars, traits, strict=True), reversed(traits), strict=True
            ):
                if trait.number is None and other.number is not None:
                    touched = [*scope.of(variable), *trait.summed]
                    alike = [dim for dim in touched if _looks_like(other.number, dim.size)]
                    why = f"{at} scales by {float(other.number):.4g}, which may come from its size"
                    self.note(alike, why)

    def note(self, dims: Sequence[Dim], why: str) -> None:
        for dim in dims:
            for atom in self.dims.atoms(dim):
                self.found.setdefault(atom, why)


def _looks_like(number: np.ndarray, size: int) -> bool:
    """Whether a number is a size, its root, or the inverse of one of them, up to rounding."""
    rounding = jnp.finfo(number.dtype).eps if jnp.issubdtype(number.dtype, jnp.inexact) else 0
    sizes = (size, 1 / size, math.sqrt(size), 1 / math.sqrt(size)) if size >= _SMALLEST else ()
    return any(abs(float(number) - n) <= 2 * float(rounding) * n for n in sizes)


def _trait(known: Mapping[Var, Trait], variable: Var | Literal) -> Trait:
    if not isinstance(variable, Literal):
        return known.get(variable, Trait())
    dtype = variable.aval.dtype  # type: ignore[attr-defined]
    is_number = _is_real(dtype) and not shape_of(variable)
    return Trait(np.asarray(variable.val, dtype) if is_number else None)


def _cast(eqn: JaxprEqn, number: np.ndarray | None) -> np.ndarray | None:
    """A number as the dtype that a view has; a number that turns into another kind is none."""
    dtype = eqn.outvars[0].aval.dtype  # type: ignore[attr-defined]
    return None if number is None or not _is_real(dtype) else number.astype(dtype)


def _evaluated(eqn: JaxprEqn, numbers: Sequence[np.ndarray]) -> np.ndarray | None:
    """Apply an equation to numbers while tracing; None where no number comes out, as from a seed."""
    if eqn.primitive.multiple_results or not _is_real(eqn.outvars[0].aval.dtype):  # type: ignore[attr-defined]
        return None
    with jax.ensure_compile_time_eval():
        return np.asarray(eqn.primitive.bind(*map(jnp.asarray, numbers), **eqn.params))


def _is_real(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
