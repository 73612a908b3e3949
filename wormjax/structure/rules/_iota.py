"""Counting.

    out[i, j] = j        along ``dimension``

All axes are free, as those of a broadcast are. Where counted entries are removed, the others keep their numbers, so
that positions, one-hot codes and masks speak of the same entries as before.

Example: ``jnp.arange(6) < 3`` selects, among the kept entries 0, 2 and 5 of an axis, 0 and 2.
Jaxpr: ``iota[dtype, shape, dimension]``, no operands.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.iota.html
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from wormjax.structure._replay import Evaluate, Ghost, Replay, Uniform, Value, bind
from wormjax.structure._trace import Axes, Propagate, Walk, shape_of


def propagate(walk: Walk, eqn: JaxprEqn) -> Sequence[Axes]:
    """Return new axes."""
    return [walk.fresh(shape_of(eqn.outvars[0]))]


def evaluate(run: Replay, eqn: JaxprEqn) -> Sequence[Value]:
    """Return the numbers of the kept entries."""
    [_, [axes]] = run.axes_of(eqn)
    at, dtype = eqn.params["dimension"], eqn.params["dtype"]
    shape, kept = run.shape(axes), run.kept(axes[at])

    def listed(numbers: np.ndarray, shape: Sequence[int]) -> Any:
        beside = numbers.astype(dtype).reshape([-1 if k == at else 1 for k in range(len(shape))])
        return jnp.broadcast_to(beside, shape)

    def count(shape: Sequence[int]) -> Any:
        if kept.all():
            return bind(eqn, [], shape=tuple(shape))[0]
        return listed(np.flatnonzero(kept), shape)

    def ghost(axis: int) -> Ghost:
        if axis != at:
            return count([1 if k == axis else n for k, n in enumerate(shape)])
        gone = np.flatnonzero(~kept)
        return Uniform(np.asarray(gone[0], dtype)) if len(gone) == 1 else None

    def each(axis: int) -> Any:
        if axis != at:
            return None
        gone = np.flatnonzero(~kept)
        return listed(gone, [len(gone) if k == at else n for k, n in enumerate(shape)])

    return [Value(count(shape), ghost, each)]


PROPAGATE: dict[str, Propagate] = {"iota": propagate}
EVALUATE: dict[str, Evaluate] = {"iota": evaluate}
