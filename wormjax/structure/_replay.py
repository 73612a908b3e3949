"""Evaluating the masked program at smaller sizes.

The traced program is run on arrays that lack the removed slices. What it computes is what the masked program
computes at full size, restricted to what is kept: shapes inside equations follow the kept sizes, divisors stay as
traced, and where a reduction crosses a removed axis the removed entries are accounted for by their *ghost*, the
value that all of them hold.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from jaxtyping import Array

from wormjax._source import source_line
from wormjax.structure._dims import Dim, Dims
from wormjax.structure._trace import Axes, Scope


@dataclasses.dataclass(frozen=True)
class Uniform:
    """A ghost that is one number, known while tracing."""

    number: np.ndarray


# A number, an array of size 1 along the removed axis, or None: the removed entries hold different values.
Ghost = Uniform | Array | None


class Value:
    """An array at kept sizes, and what its removed entries would hold.

    Args:
      array: the kept entries.
      ghost: for an axis, what every removed entry along it holds.
      each: for an axis along which the removed entries differ, all of them.

    Attributes:
      array: the kept entries.
    """

    def __init__(
        self,
        array: Any,
        ghost: Callable[[int], Ghost] | None = None,
        each: Callable[[int], Array | None] | None = None,
    ):
        self.array = array
        self._ghost, self._each = ghost, each
        self._known: dict[int, Ghost] = {}

    def ghost(self, axis: int) -> Ghost:
        """What every removed entry along an axis holds; computed when somebody asks."""
        if axis not in self._known:
            self._known[axis] = None if self._ghost is None else self._ghost(axis)
        return self._known[axis]

    def each(self, axis: int) -> Array | None:
        """All removed entries along an axis, where they differ and are known nevertheless, as of a captured array."""
        return None if self._each is None else self._each(axis)


def literal(number: Any) -> Value:
    """Return a scalar of the program's text."""
    return Value(number)


def zeros_removed(array: Any) -> Value:
    """Return a masked parameter: its removed slices are zero."""
    return Value(array, lambda _: Uniform(np.zeros((), array.dtype)))


# What stands for an array of the program's text, from it and what is kept along its axes.
Constant = Callable[[Any, Sequence[np.ndarray]], Any]


class ReplayError(ValueError):
    """An axis was pruned that this program cannot lose; the message names the primitive and its line."""


# A rule of the replay, (run, eqn, *operands): the values of an equation's results, from those of its operands.
Evaluate = Callable[..., Sequence[Value]]


@dataclasses.dataclass(eq=False)
class Replay:
    """One run of a traced program at kept sizes.

    Attributes:
      dims: the union-find of the trace.
      masks: bool mask of every pruned atom.
      rules: an evaluation rule for every known primitive.
      scope: the axes where the run is now.
      index: position of the present equation in its jaxpr.
      notes: what a rule remembers of a scope from one visit to the next.
      constant: what stands for an array of the program's text; None for itself.
    """

    dims: Dims
    masks: Mapping[Dim, np.ndarray]
    rules: Mapping[str, Evaluate]
    scope: Scope
    index: int = 0
    notes: dict[Scope, Any] = dataclasses.field(default_factory=dict)
    constant: Constant | None = None

    def run(self, jaxpr: Jaxpr, consts: Sequence[Value], operands: Sequence[Value]) -> list[Value]:
        """Evaluate a jaxpr in the present scope."""
        values: dict[Var, Value] = dict(zip(jaxpr.constvars, consts, strict=True))
        values.update(zip(jaxpr.invars, operands, strict=True))

        def read(atom: Var | Literal) -> Value:
            return literal(atom.val) if isinstance(atom, Literal) else values[atom]

        for index, eqn in enumerate(jaxpr.eqns):
            self.index = index
            rule = self.rules.get(eqn.primitive.name, same_size)
            with eqn.ctx.manager:  # the mesh that was set around this equation, among others
                results = rule(self, eqn, *map(read, eqn.invars))
            values.update(zip(eqn.outvars, results, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def enter(
        self, which: int, jaxpr: Jaxpr | ClosedJaxpr, operands: Sequence[Value]
    ) -> list[Value]:
        """Evaluate the present equation's jaxpr number ``which`` in its own scope."""
        return self.at(self.scope.inner[self.index][which]).closed(jaxpr, operands)

    def at(self, scope: Scope) -> "Replay":
        """Return a run that stands in another scope."""
        return dataclasses.replace(self, scope=scope, index=0)

    def closed(self, jaxpr: Jaxpr | ClosedJaxpr, operands: Sequence[Value]) -> list[Value]:
        """Evaluate a jaxpr, slicing the constants that it holds."""
        if not isinstance(jaxpr, ClosedJaxpr):
            return self.run(jaxpr, (), operands)
        inner = jaxpr.jaxpr
        consts = [
            self.slice(c, self.scope.axes[v])
            for c, v in zip(jaxpr.consts, inner.constvars, strict=True)
        ]
        return self.run(inner, consts, operands)

    def kept(self, dim: Dim) -> np.ndarray:
        """The bool mask of an axis."""
        return self.dims.kept(dim, self.masks)

    def size(self, dim: Dim) -> int:
        """Entries that an axis keeps."""
        return int(self.kept(dim).sum()) if self.is_pruned(dim) else dim.size

    def removed(self, dim: Dim) -> int:
        """Entries that an axis loses."""
        return dim.size - self.size(dim)

    def shape(self, axes: Axes) -> tuple[int, ...]:
        """Kept sizes of several axes."""
        return tuple(map(self.size, axes))

    def is_pruned(self, dim: Dim) -> bool:
        """Whether an axis loses anything."""
        return any(not self.masks[a].all() for a in self.dims.atoms(dim) if a in self.masks)

    def is_simple(self, dim: Dim) -> bool:
        """Whether all removed entries of an axis are of one kind, so that one slice can stand for them."""
        return self.dims.find(dim).kind == "atom"

    def axes_of(self, eqn: JaxprEqn) -> tuple[list[Axes], list[Axes]]:
        """Return the axes of an equation's operands and of its results."""
        return [self.scope.of(v) for v in eqn.invars], [self.scope.of(v) for v in eqn.outvars]

    def slice(self, array: Any, axes: Axes) -> Value:
        """Return a full-size array's kept entries; its removed entries are known where they are all equal."""
        is_known = not isinstance(array, jax.core.Tracer)
        if self.constant and is_known:
            array = self.constant(array, [self.kept(dim) for dim in axes])
        small = array
        # what is known is sliced now, or the compiled program would gather from the large array
        with jax.ensure_compile_time_eval() if is_known else contextlib.nullcontext():
            for axis, dim in enumerate(axes):
                if self.is_pruned(dim):
                    small = jnp.take(small, np.flatnonzero(self.kept(dim)), axis=axis)

        def ghost(axis: int) -> Ghost:
            gone = np.take(np.asarray(array), np.flatnonzero(~self.kept(axes[axis])), axis=axis)
            alike = gone.size and (gone == gone.ravel()[0]).all()
            return Uniform(np.asarray(gone.ravel()[0])) if alike else None

        def each(axis: int) -> Array:
            kept = [self.kept(dim) for dim in axes]
            kept[axis] = ~kept[axis]
            return jnp.asarray(np.asarray(array)[np.ix_(*kept)])

        return Value(small, ghost, each) if is_known else Value(small)

    def error(self, eqn: JaxprEqn, why: str) -> ReplayError:
        """Return an error that names the present primitive and its line."""
        at = source_line(eqn)
        return ReplayError(f"{eqn.primitive.name}{' at ' + at if at else ''}: {why}")


def bind(eqn: JaxprEqn, arrays: Sequence[Any], **changed: Any) -> list[Any]:
    """Apply an equation's primitive with some of its parameters changed; always a list."""
    params = eqn.primitive.get_bind_params({**eqn.params, **changed})
    results = eqn.primitive.bind(*arrays, **params)
    return list(results) if eqn.primitive.multiple_results else [results]


def same_size(run: Replay, eqn: JaxprEqn, *operands: Value) -> list[Value]:
    """Evaluate a primitive none of whose axes is pruned; the walk has fixed those of unknown ones."""
    if any(
        run.is_pruned(dim) for axes in (*run.axes_of(eqn)[0], *run.axes_of(eqn)[1]) for dim in axes
    ):
        raise run.error(eqn, "no rule says how to evaluate this primitive on a pruned axis.")
    return [Value(x) for x in bind(eqn, [v.array for v in operands])]


def uniform(eqn: JaxprEqn, numbers: Sequence[Any], **changed: Any) -> Uniform:
    """Apply an equation's primitive to single numbers while tracing."""
    with jax.ensure_compile_time_eval():
        [result] = bind(eqn, [jnp.asarray(n) for n in numbers], **changed)
        return Uniform(np.asarray(result))
