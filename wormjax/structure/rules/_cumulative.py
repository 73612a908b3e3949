"""Scans along one axis by an associative operation.

    out[..., n] = f_{m <= n} x[..., m]        f: sum, product, max, min, log-sum-exp; m >= n when reversed

Every entry of the scanned axis sees its neighbours, so it stays whole; the other axes pass.

Example: ``cumsum(x, axis=0)`` over the steps of a (T, C) sequence keeps T and passes C.
Jaxpr: ``cumsum[axis=0 reverse=False] a`` with a:f32[5,6].
https://docs.jax.dev/en/latest/_autosummary/jax.lax.cumsum.html
"""

from collections.abc import Sequence

from jax.extend.core import JaxprEqn

from wormjax.structure._replay import Evaluate, Replay, Value
from wormjax.structure._trace import Axes, Propagate, Walk
from wormjax.structure.rules import _passing

NAMES = ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")


def propagate(walk: Walk, eqn: JaxprEqn, operand: Axes) -> Sequence[Axes]:
    """Pass all axes; the scanned one stays whole."""
    walk.fix(eqn, [operand[eqn.params["axis"]]], "entries accumulate along this axis")
    return [operand]


def evaluate(run: Replay, eqn: JaxprEqn, operand: Value) -> Sequence[Value]:
    """Scan what is kept."""
    return _passing.evaluate(eqn, [operand], lambda _, axis: [axis])


PROPAGATE: dict[str, Propagate] = dict.fromkeys(NAMES, propagate)
EVALUATE: dict[str, Evaluate] = dict.fromkeys(NAMES, evaluate)
