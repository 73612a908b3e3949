"""Functions with their own forward derivative.

    y = f(x),   dy = r(x, dx)        r linear in dx

Both are replayed (see ``_derivatives``). Where the removed entries of x hold a number that is known while tracing, it
does not depend on anything, so its tangent is 0; where they hold an array, the array's tangent crosses beside dx.

Example: ``jax.nn.relu``, whose rule is ``select(x > 0, dx, 0)``.
Jaxpr: invars (*consts, *x); params call_jaxpr (f), jvp_jaxpr_fun (r, traced when it is needed), num_consts,
symbolic_zeros.
https://docs.jax.dev/en/latest/notebooks/Custom_derivative_rules_for_Python_code.html
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import JaxprEqn

from wormjax.structure._replay import Evaluate, Replay, Uniform, Value, same_size
from wormjax.structure._trace import Axes, Call, Propagate, Walk
from wormjax.structure.rules._crossing import (
    Body,
    Form,
    body,
    chunks,
    fit,
    flat,
    is_cut,
    like,
    pack,
    unpack,
)
from wormjax.structure.rules._derivatives import (
    abstract,
    closed_rule,
    floats,
    full,
    function_of,
    no_tangent,
    replayed,
    tie,
    walk_function,
)
from wormjax.structure.rules._passing import is_zero


def _rule(eqn: JaxprEqn) -> Callable[[Walk, Call], None]:
    """Trace ``(x, dx) -> (y, dy)`` at full size."""
    moving, moving_out = floats(eqn.invars), floats(eqn.outvars)

    def rule(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        y, dy = jax.jvp(function_of(eqn), primals, full(eqn.invars, moving, tangents))
        return y, [dy[k] for k in moving_out]

    x = abstract(eqn.invars)
    closed, _ = closed_rule(rule, x, [x[k] for k in moving])

    def walk_rule(walk: Walk, call: Call) -> None:
        found = walk.enter(closed, [*call.operands, *(call.operands[k] for k in moving)])
        tie(walk, eqn, found, [*call.results, *(call.results[k] for k in moving_out)])

    return walk_rule


def propagate(walk: Walk, eqn: JaxprEqn, *operands: Axes) -> Sequence[Axes]:
    """Walk the function and its rule."""
    return walk_function(walk, eqn, operands, _rule)


def evaluate(run: Replay, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """Make a function of the same kind at kept sizes, and call it."""
    if not is_cut(run, eqn):
        return same_size(run, eqn, *operands)
    scopes = run.scope.inner[run.index]
    if len(scopes) == 1:  # nothing to differentiate
        return run.enter(0, eqn.params["call_jaxpr"], operands)
    value_scope, rule_scope = scopes
    arrays, forms = pack(run, operands, run.axes_of(eqn)[0])
    groups = list(chunks(like(arrays), forms))
    moving, moving_out, n = floats(eqn.invars), floats(eqn.outvars), len(eqn.outvars)
    value = body(run, value_scope, forms, flat(groups))

    def derive(known: list[Form]) -> tuple[Body, list[Form]]:
        of_tangents = [_of_tangent(forms[k], groups[k][0].dtype) for k in moving]
        derived = body(
            run, rule_scope, [*forms, *of_tangents], flat([*groups, *(groups[k] for k in moving)])
        )
        of_dy = dict(zip(moving_out, derived.forms[n:], strict=True))
        agreed = [_agreed(known[k], derived.forms[k], of_dy.get(k)) for k in range(n)]
        return derived, agreed

    wanted, derivative = replayed(run, eqn, rule_scope, value.forms, derive)

    @jax.custom_jvp
    def function(*x: Any) -> tuple[Any, ...]:
        return tuple(fit(value.call(*x), value.forms, wanted))

    @function.defjvp
    def _(x: Sequence[Any], dx: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        derived = derivative()
        tangents = list(chunks(dx, forms))
        found = list(chunks(derived.call(*x, *flat(tangents[k] for k in moving)), derived.forms))
        y = list(chunks(fit(flat(found[:n]), derived.forms[:n], wanted), wanted))
        dy = [[no_tangent(np.shape(a)) for a in group] for group in y]
        for k, group, form in zip(moving_out, found[n:], derived.forms[n:], strict=True):
            dy[k] = fit(group, [form], [wanted[k]])
        return tuple(flat(y)), tuple(flat(dy))

    return unpack(function(*arrays), wanted)


def _of_tangent(form: Form, dtype: Any) -> Form:
    """What is known of a tangent's removed entries, from what is known of its primal's."""
    return {k: None if known is None else Uniform(np.zeros((), dtype)) for k, known in form.items()}


def _agreed(own: Form, again: Form, tangent: Form | None) -> Form:
    """What the value and the rule both know of a result; a number whose tangent is not 0 becomes an array."""
    return {
        k: known if known == again[k] and (tangent is None or is_zero(tangent[k])) else None
        for k, known in own.items()
        if k in again and (tangent is None or k in tangent)
    }


PROPAGATE: dict[str, Propagate] = {"custom_jvp_call": propagate}
EVALUATE: dict[str, Evaluate] = {"custom_jvp_call": evaluate}
