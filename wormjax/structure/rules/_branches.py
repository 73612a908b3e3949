"""Branches.

    y = f[index](x)

All branches see the same operands and return the same results, so their axes are one. The index is a scalar. What is
known of a result's removed entries is what every branch says of them.

Example: ``lax.cond(flag, f, g, x)`` has the branches (g, f).
Jaxpr: invars (index, *operands); params branches, a tuple of jaxprs.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.switch.html
"""

from collections.abc import Callable, Sequence
from typing import Any

from jax import lax
from jax.extend.core import JaxprEqn

from wormjax.structure._replay import Evaluate, Replay, Value, same_size
from wormjax.structure._trace import Axes, Propagate, Walk
from wormjax.structure.rules._crossing import (
    Body,
    Form,
    body,
    fit,
    is_cut,
    join,
    like,
    pack,
    unpack,
)


def propagate(walk: Walk, eqn: JaxprEqn, _: Axes, *operands: Axes) -> Sequence[Axes]:
    """Walk every branch and make their results one."""
    first, *others = [
        walk.enter(branch, operands, eqn.invars[1:]) for branch in eqn.params["branches"]
    ]
    why = walk.reason(eqn, "its branches group this axis differently")
    for other in others:
        for x, y in zip(first, other, strict=True):
            for a, b in zip(x, y, strict=True):
                walk.dims.unify(a, b, why)
    return first


def evaluate(run: Replay, eqn: JaxprEqn, index: Value, *operands: Value) -> Sequence[Value]:
    """Take a branch at kept sizes."""
    if not is_cut(run, eqn):
        return same_size(run, eqn, index, *operands)
    arrays, forms = pack(run, operands, run.axes_of(eqn)[0][1:])
    bodies = [body(run, s, forms, like(arrays)) for s in run.scope.inner[run.index]]
    common = join(*(b.forms for b in bodies))
    branches = [_saying(b, common) for b in bodies]
    return unpack(lax.switch(index.array, branches, *arrays), common)


def _saying(branch: Body, common: Sequence[Form]) -> Callable[..., list[Any]]:
    return lambda *arrays: fit(branch.call(*arrays), branch.forms, common)


PROPAGATE: dict[str, Propagate] = {"cond": propagate}
EVALUATE: dict[str, Evaluate] = {"cond": evaluate}
