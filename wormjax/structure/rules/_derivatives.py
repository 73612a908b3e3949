"""What functions share that bring their own derivative.

    y = f(x),   dy = r(x, dx)        r is f's rule, which need not be the derivative of what f computes

The gradient of the small network must be the masked network's, so f stays a function with a rule: its value is the
replay of its jaxpr, and its rule the replay of the rule's jaxpr, traced at full size and walked like the program
itself. Tangents and cotangents have the axes of what they belong to. (relu is why: max(x, 0) has the slope 1/2 at 0 and
relu has 0, and zeros are everywhere in a masked network.)

A rule often calls its own function; that call is recognised, and shares the scopes of the call that is being walked.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var

from wormjax.structure._replay import Replay, bind
from wormjax.structure._trace import Axes, Call, Scope, Walk, shape_of
from wormjax.structure.rules._crossing import Form, is_weak, join

T = TypeVar("T")

DEEPEST = 8  # rules that call their function anew, on other axes each time


def floats(variables: Sequence[Var | Literal]) -> list[int]:
    """Return the positions of the variables that have a derivative."""
    return [k for k, v in enumerate(variables) if jnp.issubdtype(v.aval.dtype, jnp.inexact)]  # type: ignore[attr-defined]


def abstract(variables: Sequence[Var | Literal]) -> list[jax.ShapeDtypeStruct]:
    """Return variables' shapes and dtypes at full size."""
    avals: list[Any] = [v.aval for v in variables]
    return [jax.ShapeDtypeStruct(a.shape, a.dtype, weak_type=is_weak(a)) for a in avals]


def full(variables: Sequence[Var | Literal], moving: Sequence[int], given: Sequence[Any]) -> list:
    """Return one tangent a variable: the given ones for those that move, JAX's empty ones for the others."""
    rest = dict(zip(moving, given, strict=True))
    return [rest.get(k, no_tangent(shape_of(v))) for k, v in enumerate(variables)]


def no_tangent(shape: Sequence[int]) -> np.ndarray:
    """Return the tangent of something that has none, such as an integer."""
    return np.zeros(tuple(shape), jax.dtypes.float0)


def function_of(eqn: JaxprEqn) -> Callable[..., list[Any]]:
    """Return an equation as a function of its operands."""
    return lambda *operands: bind(eqn, operands)


def walk_function(
    walk: Walk,
    eqn: JaxprEqn,
    operands: Sequence[Axes],
    rule: Callable[[JaxprEqn], Callable[[Walk, Call], None]],
) -> Sequence[Axes]:
    """Walk a function and its rule.

    Args:
      walk: the walk.
      eqn: the call of the function.
      operands: the axes of its operands.
      rule: traces the function's rule at full size, and returns how to walk it.

    Returns:
      The axes of its results.
    """
    again = [c for c in walk.calls if _same_function(c.eqn, eqn)]
    for call in again:
        captured = call.eqn.params["num_consts"]  # the rule has constants of its own in their place
        if _same_axes(walk, call.operands[captured:], operands[captured:]):
            tie(walk, eqn, operands[:captured], call.operands[:captured])
            walk.scope.inner[walk.index] = call.scopes
            return call.results
    results = walk.enter(eqn.params["call_jaxpr"], operands)
    if not floats(eqn.invars) or not floats(eqn.outvars):
        return results
    call = Call(eqn, operands, results, walk.scope.inner[walk.index])
    try:
        if len(again) == DEEPEST:
            raise RecursionError("it calls its function again and again, on other axes each time")
        walk_rule = rule(eqn)
    except Exception as error:  # whatever the user's rule raises
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        why = f"its derivative rule cannot be followed ({said})"
        walk.fix(eqn, [dim for axes in (*operands, *results) for dim in axes], why)
        walk.diagnostics.append(walk.reason(eqn, why))
        return results
    walk.calls.append(call)
    walk_rule(walk, call)
    walk.calls.pop()
    return results


def closed_rule(function: Callable[..., Any], *operands: Any) -> tuple[ClosedJaxpr, Any]:
    """Trace a rule at full size; return its jaxpr and the abstract results.

    Raises:
      ValueError: it closes over values of the traced program, which are gone by now.
    """
    closed, results = jax.make_jaxpr(function, return_shape=True)(*operands)
    if any(isinstance(c, jax.core.Tracer) for c in closed.consts):
        raise ValueError("it closes over traced values; pass them to the function")
    return closed, results


def tie(walk: Walk, eqn: JaxprEqn, found: Sequence[Axes], wanted: Sequence[Axes]) -> None:
    """Give what a rule returns the axes of what it belongs to."""
    why = walk.reason(eqn, "its derivative rule groups this axis differently")
    for x, y in zip(found, wanted, strict=True):
        for a, b in zip(x, y, strict=True):
            walk.dims.unify(a, b, why)


def replayed(
    run: Replay,
    eqn: JaxprEqn,
    scope: Scope,
    own: list[Form],
    derive: Callable[[list[Form]], tuple[T, list[Form]]],
) -> tuple[list[Form], Callable[[], T]]:
    """Replay a rule: now, or, where it is the rule itself that calls its function, when JAX asks for it.

    Args:
      run: the run.
      eqn: the call of the function.
      scope: where the rule was walked.
      own: what the function's value knows of its results' removed entries.
      derive: from what is known of them so far: the replayed rule, and what is known to it too.

    Returns:
      The forms of the results, and the replayed rule.

    Raises:
      ReplayError: when JAX asks later, and the rule knows less than the value did.
    """
    if scope not in run.notes:
        known: list[Form] | None = None
        found = own
        try:
            while known != found:  # the rule's own calls know no more than this one
                known = run.notes[scope] = found
                rule, found = derive(known)
        finally:
            del run.notes[scope]
        return found, lambda: rule

    shared = join(own, run.notes[scope])

    @functools.cache
    def later() -> T:
        rule, found = derive(shared)
        if found != shared:
            raise run.error(eqn, "its higher derivatives depend on entries that were removed.")
        return rule

    return shared, later


def _same_axes(walk: Walk, a: Sequence[Axes], b: Sequence[Axes]) -> bool:
    return all(
        len(x) == len(y) and all(map(walk.dims.same, x, y)) for x, y in zip(a, b, strict=True)
    )


def _same_function(a: JaxprEqn, b: JaxprEqn) -> bool:
    """Whether two equations call one function on operands of the same types."""
    if a.primitive is not b.primitive or _source(a) != _source(b):
        return False
    return str(a.params["call_jaxpr"]) == str(b.params["call_jaxpr"])


def _source(eqn: JaxprEqn) -> str:
    """Name, file and line of the user's rule."""
    rule = eqn.params.get("jvp_jaxpr_fun") or eqn.params["fwd_jaxpr_thunk"]
    return rule.debug_info.func_src_info
