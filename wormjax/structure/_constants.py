"""Arrays that a traced program computes from its own text: captured arrays, literals, counts.

A list of positions, as in ``x[:, order]``, is such an array, even where it is built with ``jnp`` inside the function.
It is looked for backwards from where it is used, through calls, and computed once, while tracing.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal, Var

from wormjax.structure._scopes import jaxpr_of
from wormjax.structure._trace import Scope, shape_of

_IN_LINE = {"jit", "pjit", "closed_call", "eval_jaxpr"}
_LARGEST = 1 << 20  # entries of anything on the way: a list of positions is short


def constant(scope: Scope, variable: Var | Literal) -> np.ndarray | None:
    """Return the value of a variable that depends on no parameter, state or input; None where it does.

    Args:
      scope: the scope in which the variable stands; the walk has passed what makes it.
      variable: of the scope's jaxpr.
    """
    value = _value(scope, variable, {})
    return None if value is None else np.asarray(value)


def _value(scope: Scope, variable: Var | Literal, known: dict[Any, Any]) -> Any:
    """The value of a variable, from what was found of others, or None."""
    if isinstance(variable, Literal):
        return np.asarray(variable.val, variable.aval.dtype)  # type: ignore[attr-defined]
    if (scope, variable) not in known:
        is_large = math.prod(shape_of(variable)) > _LARGEST
        known[scope, variable] = None if is_large else _found(scope, variable, known)
    return known[scope, variable]


def _found(scope: Scope, variable: Var, known: dict[Any, Any]) -> Any:
    jaxpr = jaxpr_of(scope)
    if variable in jaxpr.constvars:
        if not isinstance(scope.jaxpr, ClosedJaxpr):
            return None
        return scope.jaxpr.consts[jaxpr.constvars.index(variable)]
    if variable in jaxpr.invars:
        outer, given = scope.outer or (scope, ())
        position = jaxpr.invars.index(variable)
        outside = given[position] if position < len(given) else None
        return None if outside is None else _value(outer, outside, known)
    if variable not in scope.makers:
        return None
    index, eqn = scope.makers[variable]
    which = eqn.outvars.index(variable)
    if eqn.primitive.name in _IN_LINE:
        [inner] = scope.inner[index]
        return _value(inner, jaxpr_of(inner).outvars[which], known)
    if index in scope.inner or eqn.effects:
        return None
    arrays = []
    for operand in eqn.invars:
        arrays.append(_value(scope, operand, known))
        if arrays[-1] is None:
            return None
    with jax.ensure_compile_time_eval():
        results = eqn.primitive.bind(
            *map(jnp.asarray, arrays), **eqn.primitive.get_bind_params(eqn.params)
        )
        return results[which] if eqn.primitive.multiple_results else results
