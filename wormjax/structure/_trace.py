"""From a function to its jaxpr with a dim on every axis of every value."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from jaxtyping import PyTree

from wormjax._paths import leaf_names
from wormjax._source import source_line
from wormjax.structure._dims import Dim, Dims, Reason

Axes = tuple[Dim, ...]


@dataclasses.dataclass(eq=False)
class Scope:
    """The axes of one jaxpr at one place where it is called.

    Attributes:
      jaxpr: the jaxpr.
      axes: dims of every variable, in order of its axes.
      results: those of the jaxpr's results.
      inner: for an equation that holds jaxprs, the scope of each, in the rule's order.
      outer: the scope around, and what each operand of the jaxpr is there; None where it is no one value.
      lists: for an equation that reads an axis at a list of positions, the list.
    """

    jaxpr: Jaxpr | ClosedJaxpr
    axes: dict[Var, Axes] = dataclasses.field(default_factory=dict)
    results: list[Axes] = dataclasses.field(default_factory=list)
    inner: dict[int, list["Scope"]] = dataclasses.field(default_factory=dict)
    outer: tuple["Scope", Sequence[Var | Literal | None]] | None = None
    lists: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def makers(self) -> dict[Var, tuple[int, JaxprEqn]]:
        """For each variable that an equation makes, the equation and its position."""
        jaxpr = getattr(self.jaxpr, "jaxpr", self.jaxpr)
        return {v: (k, eqn) for k, eqn in enumerate(jaxpr.eqns) for v in eqn.outvars}

    def of(self, atom: Var | Literal) -> Axes:
        """Return the axes of an equation's operand; a literal is a scalar here."""
        return () if isinstance(atom, Literal) else self.axes[atom]


def shape_of(variable: Var | Literal) -> tuple[int, ...]:
    """Return a variable's full shape."""
    return variable.aval.shape  # type: ignore[attr-defined]


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """An equation and what the walk made of it.

    Attributes:
      eqn: the equation.
      operands: axes of its operands.
      results: axes of its results.
      scopes: the scopes of its jaxprs.
    """

    eqn: JaxprEqn
    operands: Sequence[Axes]
    results: Sequence[Axes]
    scopes: list[Scope]


# A rule of the walk, (walk, eqn, *operands): the axes of an equation's results, from those of its operands.
Propagate = Callable[..., Sequence[Axes]]


@dataclasses.dataclass(eq=False)
class Walk:
    """One pass over a jaxpr that gives every axis its dim.

    Attributes:
      dims: the union-find.
      rules: a propagation rule for every known primitive.
      scope: where the pass is now.
      index: position of the present equation in its jaxpr.
      diagnostics: what stopped a channel axis, in order of appearance.
      calls: the functions inside whose own derivative rule the pass is now, outermost first.
      around: the equations in whose jaxprs the pass is now, outermost first.
    """

    dims: Dims
    rules: dict[str, Propagate]
    scope: Scope
    index: int = 0
    diagnostics: list[Reason] = dataclasses.field(default_factory=list)
    calls: list[Call] = dataclasses.field(default_factory=list)
    around: list[JaxprEqn] = dataclasses.field(default_factory=list)

    def run(self, jaxpr: Jaxpr, consts: Sequence[Axes], operands: Sequence[Axes]) -> list[Axes]:
        """Walk a jaxpr in the present scope and return the axes of its results."""
        self.scope.axes.update(zip(jaxpr.constvars, consts, strict=True))
        self.scope.axes.update(zip(jaxpr.invars, operands, strict=True))
        self._fix_sharded(jaxpr.invars)
        for index, eqn in enumerate(jaxpr.eqns):
            self.index = index
            rule = self.rules.get(eqn.primitive.name, unknown)
            results = rule(self, eqn, *(self.scope.of(v) for v in eqn.invars))
            self.scope.axes.update(zip(eqn.outvars, map(tuple, results), strict=True))
            self._fix_sharded(eqn.outvars, eqn)
        return [self.scope.of(v) for v in jaxpr.outvars]

    def enter(
        self,
        jaxpr: Jaxpr | ClosedJaxpr,
        operands: Sequence[Axes],
        given: Sequence[Var | Literal | None] = (),
    ) -> list[Axes]:
        """Walk a jaxpr inside the present equation, in a scope of its own.

        Args:
          jaxpr: the jaxpr.
          operands: axes of its operands.
          given: the variables that its first operands are whenever it runs; None for one that changes.
        """
        outer, index = self.scope, self.index
        self.around.append(getattr(outer.jaxpr, "jaxpr", outer.jaxpr).eqns[index])
        self.scope = scope = Scope(jaxpr, outer=(outer, given))
        outer.inner.setdefault(index, []).append(scope)
        consts: list[Axes] = []
        if isinstance(jaxpr, ClosedJaxpr):
            consts = [self.fresh(jax.numpy.shape(c)) for c in jaxpr.consts]
        inner: Jaxpr = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
        try:
            scope.results = self.run(inner, consts, operands)
            return scope.results
        finally:
            self.scope, self.index = outer, index
            self.around.pop()

    def _fix_sharded(self, variables: Sequence[Var], eqn: JaxprEqn | None = None) -> None:
        """Keep whole what explicit sharding shares out: the devices of a mesh axis must hold equally much."""
        for variable in variables:
            sharding = getattr(variable.aval, "sharding", None)
            if sharding is None or sharding.mesh.empty:
                continue
            for dim, names in zip(self.scope.of(variable), sharding.spec, strict=False):
                if names:
                    why = f"it is sharded over the mesh axis {names!r}"
                    self.dims.fix(dim, Reason(why) if eqn is None else self.reason(eqn, why))

    def fresh(self, shape: Sequence[int]) -> Axes:
        """Return axes of which nothing is known yet."""
        return tuple(self.dims.new(n) for n in shape)

    def unify(self, eqn: JaxprEqn, a: Axes, b: Axes) -> None:
        """Make two lists of axes the same, one by one."""
        for x, y in zip(a, b, strict=True):
            self.dims.unify(x, y, self.reason(eqn, "its two operands group this axis differently"))

    def reason(self, eqn: JaxprEqn, why: str) -> Reason:
        """Return a reason that names the present primitive and its source line."""
        # JAX forgets the lines inside its own compiled functions; then the call's line is meant
        lines = (source_line(e) for e in (eqn, *reversed(self.around)))
        return Reason(why, eqn.primitive.name, next(filter(None, lines), ""))

    def fix(self, eqn: JaxprEqn, axes: Sequence[Dim], why: str) -> None:
        """Say that an equation needs these axes whole."""
        reason = self.reason(eqn, why)
        for dim in axes:
            if dim.size > 1:
                self.dims.fix(dim, reason)


def unknown(walk: Walk, eqn: JaxprEqn, *operands: Axes) -> list[Axes]:
    """A barrier: a primitive without a rule keeps every axis that it touches whole."""
    results = [walk.fresh(shape_of(v)) for v in eqn.outvars]
    touched = [dim for axes in (*operands, *results) for dim in axes]
    walk.fix(eqn, touched, "no rule says what this primitive does to its axes")
    if any(dim.size > 1 for dim in touched):
        walk.diagnostics.append(
            walk.reason(eqn, "no rule says what this primitive does to its axes")
        )
    return results


@dataclasses.dataclass(frozen=True, eq=False)
class Traced:
    """A traced function.

    Attributes:
      closed: the jaxpr over the flat (params, state, inputs).
      scope: the dims of all its values.
      dims: the union-find.
      params: dims of each leaf of the parameters, in flatten order.
      names: path of each of these leaves.
      state: dims of each leaf of the state, in flatten order.
      consts: dims of each captured constant.
      outputs: dims of each leaf of the output (the state's left out).
      out_tree: structure of what the function returns.
      diagnostics: what stopped a channel axis.
    """

    closed: ClosedJaxpr
    scope: Scope
    dims: Dims
    params: list[Axes]
    names: list[str]
    state: list[Axes]
    consts: list[Axes]
    outputs: list[Axes]
    out_tree: Any
    diagnostics: list[Reason]


def trace(
    apply: Callable[..., Any],
    params: PyTree,
    inputs: Sequence[PyTree],
    state: PyTree | None,
    rules: dict[str, Propagate],
) -> Traced:
    """Trace ``apply(params, *inputs)`` or ``apply(params, state, *inputs)`` abstractly and walk it.

    Inputs and outputs are kept whole; the state that comes out has the dims of the state that went in.

    Args:
      apply: the function.
      params: arrays or `jax.ShapeDtypeStruct`.
      inputs: example inputs, likewise.
      state: batch statistics, caches, or None where ``apply`` takes none.
      rules: a propagation rule for every known primitive.

    Raises:
      ValueError: with a state, no pair comes out, or a state of another structure than it went in.
    """
    arguments = (params, *inputs) if state is None else (params, state, *inputs)
    closed, shapes = jax.make_jaxpr(apply, return_shape=True)(*arguments)
    walk = Walk(Dims(), rules, Scope(closed))
    axes = [[walk.fresh(jax.numpy.shape(x)) for x in jax.tree.leaves(tree)] for tree in arguments]
    of_params, of_state = axes[0], (axes[1] if state is not None else [])
    for leaf in (leaf for tree in axes[1 if state is None else 2 :] for leaf in tree):
        for dim in leaf:
            walk.dims.fix(dim, Reason("it is an axis of the model's input"))
    consts = [walk.fresh(jax.numpy.shape(c)) for c in closed.consts]
    results = walk.run(closed.jaxpr, consts, [a for tree in axes for a in tree])
    outputs = results
    if state is not None:
        if not isinstance(shapes, tuple | list) or len(shapes) != 2:
            raise ValueError(
                "With state=, apply is called as apply(params, state, *inputs) and must return the pair "
                f"(output, new_state); it returned {type(shapes).__name__}. Return the state beside the output, or "
                "leave state= out and close over it."
            )
        output, new_state = shapes
        if jax.tree.structure(new_state) != jax.tree.structure(state):  # type: ignore[operator]
            raise ValueError(
                "apply returned a state of another structure than it was given; it must be "
                "apply(params, state, *inputs) -> (output, new_state) with equal structures."
            )
        outputs = results[: len(jax.tree.leaves(output))]
        for before, after in zip(of_state, results[len(outputs) :], strict=True):
            for x, y in zip(before, after, strict=True):
                walk.dims.unify(x, y, Reason("the state comes out grouped in another way"))
    for leaf in outputs:
        for dim in leaf:
            walk.dims.fix(dim, Reason("it is an axis of the model's output"))
    return Traced(
        closed=closed,
        scope=walk.scope,
        dims=walk.dims,
        params=of_params,
        names=leaf_names(params),
        state=of_state,
        consts=consts,
        outputs=outputs,
        out_tree=jax.tree.structure(shapes),
        diagnostics=walk.diagnostics,
    )
