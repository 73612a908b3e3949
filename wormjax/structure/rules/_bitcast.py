"""Reading the bits of an array as another type.

    out[i, j] = bits of x[i, j]        equal widths: entry by entry

Reading as a narrower type adds a last axis, as a wider one takes the last axis away; those stay whole, the others pass.

Example: uniform random floats are made of the bits of random integers, entry by entry.
Jaxpr: ``bitcast_convert_type[new_dtype=float32] a`` with a:u32[3,4], or a:u16[3,4,2].
https://docs.jax.dev/en/latest/_autosummary/jax.lax.bitcast_convert_type.html
"""

from collections.abc import Sequence

from jax.extend.core import JaxprEqn

from wormjax.structure._replay import Evaluate, Replay, Value
from wormjax.structure._trace import Axes, Propagate, Walk, shape_of
from wormjax.structure.rules import _passing


def propagate(walk: Walk, eqn: JaxprEqn, operand: Axes) -> Sequence[Axes]:
    """Pass the axes that both have."""
    shape = shape_of(eqn.outvars[0])
    rank = min(len(operand), len(shape))
    added = walk.fresh(shape[rank:])
    walk.fix(eqn, (*operand[rank:], *added), "it holds the bytes of one number")
    return [(*operand[:rank], *added)]


def evaluate(run: Replay, eqn: JaxprEqn, operand: Value) -> Sequence[Value]:
    """Read what is kept."""
    return _passing.evaluate(eqn, [operand], lambda _, axis: [axis])


PROPAGATE: dict[str, Propagate] = {"bitcast_convert_type": propagate}
EVALUATE: dict[str, Evaluate] = {"bitcast_convert_type": evaluate}
