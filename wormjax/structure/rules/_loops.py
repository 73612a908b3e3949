"""Loops.

    scan:   c[0] = init,  c[t+1], y[t] = f(consts, c[t], x[t])        while:   c = init;  while p(c):  c = f(c)

The carry has the same axes in every step, so what goes in, what comes out and what the body makes of it are one. The
axis of the steps in xs and ys stays whole; their other axes are the body's. What the carry's removed entries hold must
hold in every step: it is first taken to be what it is in the beginning, and weakened until the body confirms it, from
a number to an array that is carried along, and from that to unknown.

Example: stacked layers (L, C, C) scanned over an activation (N, C) keep L, and tie both C.
Jaxpr (scan): invars (*consts, *init, *xs), outvars (*carry, *ys); params jaxpr, length, reverse, unroll, and
num_consts, num_carry (JAX 0.10) or ft_in (0.12), three groups as long as these.
Jaxpr (while): invars (*cond_consts, *body_consts, *init); params cond_jaxpr, cond_nconsts, body_jaxpr, body_nconsts.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.scan.html
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from wormjax._jaxprs import scanned
from wormjax.structure._replay import Evaluate, Replay, Value, same_size
from wormjax.structure._trace import Axes, Propagate, Scope, Walk, shape_of
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
    shifted,
    unpack,
)


def _tie(walk: Walk, eqn: JaxprEqn, before: Sequence[Axes], after: Sequence[Axes]) -> None:
    """Make the carry that comes out of a step the carry that goes in."""
    why = walk.reason(eqn, "the carry comes out of a step grouped in another way")
    for x, y in zip(before, after, strict=True):
        for a, b in zip(x, y, strict=True):
            walk.dims.unify(a, b, why)


def propagate_scan(walk: Walk, eqn: JaxprEqn, *operands: Axes) -> Sequence[Axes]:
    """Walk one step."""
    n, m = scanned(eqn)
    consts, carry, xs = operands[:n], operands[n : n + m], operands[n + m :]
    rows = [axes[1:] for axes in xs]
    results = walk.enter(eqn.params["jaxpr"], [*consts, *carry, *rows], eqn.invars[:n])
    _tie(walk, eqn, carry, results[:m])
    ys = [(*walk.fresh(shape_of(v)[:1]), *axes) for v, axes in _pairs(eqn.outvars, results, m)]
    steps = [axes[0] for axes in (*xs, *ys)]
    walk.fix(eqn, steps, "it is the axis of a loop's steps")
    return [*carry, *ys]


def _pairs(outvars: Sequence[Any], results: Sequence[Axes], start: int) -> list[tuple[Any, Axes]]:
    return list(zip(outvars[start:], results[start:], strict=True))


def _settle(
    run: Replay,
    scope: Scope,
    init: Sequence[Any],
    forms: Sequence[Form],
    step: Callable[[Sequence[Form], Sequence[Any]], Body],
) -> tuple[list[Any], list[Form], Body]:
    """Find what is known of the carry's removed entries in every step.

    An enclosing loop that settles visits this place again; what was found then is where the search begins, so that
    all visits together weaken each form twice at most.

    Returns:
      The packed carry to begin with, its forms, and the body replayed with them.
    """
    settled = join(forms, run.notes.get(scope, forms))
    while True:
        start = fit(init, forms, settled)
        replayed = step(settled, start)
        joined = join(settled, replayed.forms[: len(settled)])
        if joined == settled:
            run.notes[scope] = settled
            return start, settled, replayed
        settled = joined


def evaluate_scan(run: Replay, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """Scan a step at kept sizes."""
    if not is_cut(run, eqn):
        return same_size(run, eqn, *operands)
    n, m = scanned(eqn)
    axes, _ = run.axes_of(eqn)
    [scope] = run.scope.inner[run.index]
    consts, of_consts = pack(run, operands[:n], axes[:n])
    init, of_init = pack(run, operands[n : n + m], axes[n : n + m])
    xs, of_xs = pack(run, operands[n + m :], axes[n + m :])
    rows, of_rows = like(xs, leading=1), shifted(of_xs, -1)

    def step(forms: Sequence[Form], start: Sequence[Any]) -> Body:
        arrays = [*like(consts), *like(start), *rows]
        return body(run, scope, [*of_consts, *forms, *of_rows], arrays)

    init, of_carry, replayed = _settle(run, scope, init, of_init, step)
    of_ys = replayed.forms[m:]

    def one(carry: Sequence[Any], x: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        groups = list(chunks(replayed.call(*consts, *carry, *x), replayed.forms))
        return fit(flat(groups[:m]), replayed.forms[:m], of_carry), flat(groups[m:])

    how = {k: eqn.params[k] for k in ("length", "reverse", "unroll")}
    carry, ys = lax.scan(one, init, xs, **how)
    return [*unpack(carry, of_carry), *unpack(ys, shifted(of_ys, 1))]


def propagate_while(walk: Walk, eqn: JaxprEqn, *operands: Axes) -> Sequence[Axes]:
    """Walk the condition and the body."""
    n, m = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    carry = operands[n + m :]
    walk.enter(eqn.params["cond_jaxpr"], [*operands[:n], *carry])
    given = eqn.invars[n : n + m]
    _tie(walk, eqn, carry, walk.enter(eqn.params["body_jaxpr"], operands[n:], given))
    return carry


def evaluate_while(run: Replay, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """Loop at kept sizes."""
    if not is_cut(run, eqn):
        return same_size(run, eqn, *operands)
    n, m = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    axes, _ = run.axes_of(eqn)
    condition, scope = run.scope.inner[run.index]
    cond_consts, of_cond_consts = pack(run, operands[:n], axes[:n])
    consts, of_consts = pack(run, operands[n : n + m], axes[n : n + m])
    init, of_init = pack(run, operands[n + m :], axes[n + m :])

    def step(forms: Sequence[Form], start: Sequence[Any]) -> Body:
        return body(run, scope, [*of_consts, *forms], [*like(consts), *like(start)])

    init, of_carry, replayed = _settle(run, scope, init, of_init, step)
    arrays = [*like(cond_consts), *like(init)]
    test = body(run, condition, [*of_cond_consts, *of_carry], arrays)

    def goes_on(carry: Sequence[Any]) -> Any:
        return test.call(*cond_consts, *carry)[0]

    def advance(carry: Sequence[Any]) -> list[Any]:
        after = fit(replayed.call(*consts, *carry), replayed.forms, of_carry)
        return [_in_lanes(goes_on(carry), x, y) for x, y in zip(after, carry, strict=True)]

    carry = lax.while_loop(lambda c: jnp.any(goes_on(c)), advance, init)
    return unpack(carry, of_carry)


def _in_lanes(goes_on: Any, after: Any, before: Any) -> Any:
    """Move the lanes of a loop that `jax.vmap` made of several; each has its own condition."""
    if jnp.ndim(goes_on) == 0:
        return after
    return jnp.where(
        jnp.expand_dims(goes_on, tuple(range(goes_on.ndim, after.ndim))), after, before
    )


PROPAGATE: dict[str, Propagate] = {"scan": propagate_scan, "while": propagate_while}
EVALUATE: dict[str, Evaluate] = {"scan": evaluate_scan, "while": evaluate_while}
