"""Functions with their own backward derivative.

    y = f(x),   (y, s) = forward(x),   gx = backward(s, gy)        s: what the forward pass stores

All three are replayed (see ``_derivatives``); what is stored has axes like everything else. Where the removed entries
of a value all hold an array h, the gradient of h is the sum of theirs. The backward pass is linear and treats removed
entries alike, so it is run with the mean of their gradients in the place of each.

Example: a rounding whose backward pass is the identity: ``f.defvjp(lambda x: (round(x), ()), lambda s, g: (g,))``.
Jaxpr: invars (*consts, *x); params call_jaxpr (f), fwd_jaxpr_thunk, bwd, out_trees, num_consts, symbolic_zeros.
https://docs.jax.dev/en/latest/notebooks/Custom_derivative_rules_for_Python_code.html
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import JaxprEqn

from wormjax.structure._replay import Evaluate, Replay, ReplayError, Value, same_size
from wormjax.structure._trace import Axes, Call, Propagate, Scope, Walk
from wormjax.structure.rules._crossing import (
    Body,
    Form,
    body,
    chunks,
    fit,
    flat,
    is_cut,
    join,
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
    replayed,
    tie,
    walk_function,
)


def _moving(eqn: JaxprEqn) -> list[int]:
    """The operands that have a gradient: constants that f closes over have none."""
    return [k for k in floats(eqn.invars) if k >= eqn.params["num_consts"]]


def _rule(eqn: JaxprEqn) -> Callable[[Walk, Call], None]:
    """Trace ``x -> (y, s)`` and ``(s, gy) -> gx`` at full size."""
    moving, moving_out = _moving(eqn), floats(eqn.outvars)

    def forward(*x: Any) -> Any:
        def function(*given: Any) -> list[Any]:
            merged = dict(enumerate(x)) | dict(zip(moving, given, strict=True))
            return function_of(eqn)(*merged.values())

        return jax.vjp(function, *(x[k] for k in moving))

    ahead, (y, pull_back) = closed_rule(forward, *abstract(eqn.invars))
    stored, structure = jax.tree.flatten(
        pull_back
    )  # the leaves of JAX's pull-back are what is stored

    def backward(stored: Sequence[Any], gy: Sequence[Any]) -> Any:
        return jax.tree.unflatten(structure, stored)(full(eqn.outvars, moving_out, gy))

    back, _ = closed_rule(backward, stored, [y[k] for k in moving_out])

    def walk_rule(walk: Walk, call: Call) -> None:
        found = walk.enter(ahead, call.operands)
        tie(walk, eqn, found[: len(y)], call.results)
        gradients = walk.enter(back, [*found[len(y) :], *(call.results[k] for k in moving_out)])
        tie(walk, eqn, gradients, [call.operands[k] for k in moving])

    return walk_rule


def propagate(walk: Walk, eqn: JaxprEqn, *operands: Axes) -> Sequence[Axes]:
    """Walk the function, its forward pass and its backward pass."""
    return walk_function(walk, eqn, operands, _rule)


class _Passes(NamedTuple):
    """The rule at kept sizes.

    Attributes:
      ahead: from packed x to packed (y, s).
      back: from packed (s, gy) to packed gx, means of gradients in the place of sums.
    """

    ahead: Body
    back: Body


def evaluate(run: Replay, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """Make a function of the same kind at kept sizes, and call it."""
    if not is_cut(run, eqn):
        return same_size(run, eqn, *operands)
    scopes = run.scope.inner[run.index]
    if len(scopes) == 1:  # nothing to differentiate
        return run.enter(0, eqn.params["call_jaxpr"], operands)
    value_scope, *rule_scopes = scopes
    of_x, of_y = run.axes_of(eqn)
    arrays, forms = pack(run, operands, of_x)
    value = body(run, value_scope, forms, like(arrays))
    derive = functools.partial(_derive, run, eqn, rule_scopes, forms, like(arrays))
    wanted, passes = replayed(run, eqn, rule_scopes[0], value.forms, derive)

    def function(*x: Any) -> tuple[Any, ...]:
        return tuple(fit(value.call(*x), value.forms, wanted))

    def forward(*x: Any) -> tuple[tuple[Any, ...], list[Any]]:
        ahead = passes().ahead
        groups = list(chunks(ahead.call(*x), ahead.forms))
        n = len(of_y)
        return tuple(fit(flat(groups[:n]), ahead.forms[:n], wanted)), flat(groups[n:])

    def backward(stored: Sequence[Any], gy: Sequence[Any]) -> tuple[Any, ...]:
        back = passes().back
        groups = list(chunks(gy, wanted))
        means = [
            _by_removed(operator.truediv, run, of_y[k], groups[k], wanted[k])
            for k in floats(eqn.outvars)
        ]
        gx: list[list[Any]] = [[None] * len(group) for group in chunks(arrays, forms)]
        found = chunks(back.call(*stored, *flat(means)), back.forms)
        for k, group, form in zip(_moving(eqn), found, back.forms, strict=True):
            sums = fit(group, [form], [forms[k]])
            gx[k] = _by_removed(operator.mul, run, of_x[k], sums, forms[k])
        return tuple(flat(gx))

    small = jax.custom_vjp(function)
    small.defvjp(forward, backward)
    return unpack(small(*arrays), wanted)


def _derive(
    run: Replay,
    eqn: JaxprEqn,
    scopes: Sequence[Scope],
    forms: Sequence[Form],
    x: Sequence[Any],
    of_value: Sequence[Form],
) -> tuple[_Passes, list[Form]]:
    """Replay the rule abstractly; return also what it lets be known of the results' removed entries.

    A result whose removed entries hold a number says nothing of their gradients. Where the backward pass needs them,
    the number is made an array, which has a gradient.
    """
    n, moving_out = len(of_value), floats(eqn.outvars)
    ahead = body(run, scopes[0], forms, x)
    groups = list(chunks(ahead.results, ahead.forms))
    stored = flat(groups[n:])
    known = join(of_value, ahead.forms[:n])

    def back(wanted: Sequence[Form]) -> Body:
        of_gy: list[Form] = [{k: v for k, v in wanted[j].items() if v is None} for j in moving_out]
        gy = [_abstract_fit(groups[j], ahead.forms[j], wanted[j]) for j in moving_out]
        found = body(run, scopes[1], [*ahead.forms[n:], *of_gy], [*stored, *flat(gy)])
        for k, form in zip(_moving(eqn), found.forms, strict=True):
            if any(axis not in form for axis, known in forms[k].items() if known is None):
                raise run.error(eqn, "the gradient of removed entries cannot be derived.")
        if any(of_gy) and not _is_linear(found, stored, flat(gy)):
            raise run.error(
                eqn, "its backward pass is not linear, and removed entries are not constant."
            )
        return found

    try:
        return _Passes(ahead, back(known)), known
    except ReplayError:
        held: list[Form] = [dict.fromkeys(form) for form in known]
        return _Passes(ahead, back(held)), held


def _abstract_fit(arrays: Sequence[Any], have: Form, want: Form) -> list[Any]:
    return jax.eval_shape(lambda *a: fit(a, [have], [want]), *arrays)


def _by_removed(
    operation: Callable[[Any, int], Any], run: Replay, axes: Axes, group: Sequence[Any], form: Form
) -> list[Any]:
    """Multiply or divide the ghosts beside a value by the number of entries that each stands for."""
    value, *ghosts = group
    held = [k for k, known in form.items() if known is None]
    return [
        value,
        *(operation(g, run.removed(axes[k])) for g, k in zip(ghosts, held, strict=True)),
    ]


def _is_linear(back: Body, stored: Sequence[Any], gy: Sequence[Any]) -> bool:
    def transposed(stored: Sequence[Any], gy: Sequence[Any]) -> Any:
        gx = back.call(*stored, *gy)
        return jax.linear_transpose(lambda *g: back.call(*stored, *g), *gy)(gx)

    try:
        jax.eval_shape(transposed, stored, gy)
    except Exception:  # each primitive that is not linear refuses in its own way
        return False
    return True


PROPAGATE: dict[str, Propagate] = {"custom_vjp_call": propagate}
EVALUATE: dict[str, Evaluate] = {"custom_vjp_call": evaluate}
