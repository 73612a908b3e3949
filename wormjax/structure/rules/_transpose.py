"""Axes in another order, and axes read backwards.

    transpose     out[j, i] = x[i, j]
    rev           out[i] = x[n - 1 - i]

A transposition passes every axis to its new place. A reversed axis is the operand's, read from its end; of kept entries
that is again the reversal. An axis that is whole anyway is taken for its own reversal.

Example: in ``x.reshape(n, 2, 3).swapaxes(1, 2).reshape(n, 6)``, a channel shuffle, the 6 come out as (3, 2).
Jaxpr: ``transpose[permutation] x``, where result axis k is operand axis permutation[k]; ``rev[dimensions] x``.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.transpose.html
"""

from collections.abc import Sequence

import numpy as np
from jax.extend.core import JaxprEqn

from wormjax.structure._replay import Evaluate, Replay, Value
from wormjax.structure._trace import Axes, Propagate, Walk
from wormjax.structure.rules import _passing


def propagate_transpose(walk: Walk, eqn: JaxprEqn, operand: Axes) -> Sequence[Axes]:
    """Pass every axis to its new place."""
    return [tuple(operand[k] for k in eqn.params["permutation"])]


def evaluate_transpose(run: Replay, eqn: JaxprEqn, operand: Value) -> Sequence[Value]:
    """Transpose what is kept."""
    order = eqn.params["permutation"]
    return _passing.evaluate(
        eqn, [operand], lambda _, axis: [order[axis]], constant=_passing.unchanged
    )


def propagate_rev(walk: Walk, eqn: JaxprEqn, operand: Axes) -> Sequence[Axes]:
    """Read the reversed axes from their ends; pass the others."""
    result = list(operand)
    for axis in eqn.params["dimensions"]:
        if not walk.dims.reasons(operand[axis]):
            backwards = walk.dims.take(operand[axis], np.arange(operand[axis].size)[::-1])
            assert backwards is not None  # every entry occurs once, so nothing is split
            result[axis] = backwards
    return [tuple(result)]


def evaluate_rev(run: Replay, eqn: JaxprEqn, operand: Value) -> Sequence[Value]:
    """Reverse what is kept."""
    return _passing.evaluate(eqn, [operand], lambda _, axis: [axis], constant=_passing.unchanged)


PROPAGATE: dict[str, Propagate] = {"transpose": propagate_transpose, "rev": propagate_rev}
EVALUATE: dict[str, Evaluate] = {"transpose": evaluate_transpose, "rev": evaluate_rev}
