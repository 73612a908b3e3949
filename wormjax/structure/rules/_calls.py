"""Calls: a jaxpr in the place of an equation.

    y = f(x)        axes pass through f as if it were written out

A call of `jax.jit` is replayed in line, which costs nothing inside the jit around the whole. A block under
`jax.checkpoint` is replayed as such a block, with its policy, so that the backward pass still computes it again
instead of storing it; what its removed entries hold crosses its border beside the values.

Example: ``jax.nn.silu(x)`` is a ``jit`` whose jaxpr is ``x * logistic(x)``.
Jaxpr: invars the inner jaxpr's; params jaxpr (``jit``; ``remat2`` with prevent_cse, policy) or call_jaxpr
(``call``, ``closed_call``, ``eval_jaxpr``).
https://docs.jax.dev/en/latest/gradient-checkpointing.html
"""

from collections.abc import Sequence

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from wormjax.structure._replay import Evaluate, Replay, Value, same_size
from wormjax.structure._trace import Axes, Propagate, Walk
from wormjax.structure.rules._crossing import body, is_cut, like, pack, unpack

IN_LINE = ("jit", "call", "closed_call", "eval_jaxpr")  # JAX 0.12 calls the middle two the last
BLOCKS = ("remat2",)


def _jaxpr(eqn: JaxprEqn) -> Jaxpr | ClosedJaxpr:
    return eqn.params["jaxpr"] if "jaxpr" in eqn.params else eqn.params["call_jaxpr"]


def propagate(walk: Walk, eqn: JaxprEqn, *operands: Axes) -> Sequence[Axes]:
    """Walk the inner jaxpr."""
    return walk.enter(_jaxpr(eqn), operands, eqn.invars)


def evaluate(run: Replay, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """Replay the inner jaxpr in line."""
    return run.enter(0, _jaxpr(eqn), operands)


def evaluate_block(run: Replay, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """Replay the inner jaxpr as a block that the backward pass computes again."""
    if not is_cut(run, eqn):
        return same_size(run, eqn, *operands)
    [scope] = run.scope.inner[run.index]
    arrays, forms = pack(run, operands, run.axes_of(eqn)[0])
    inner = body(run, scope, forms, like(arrays))
    block = jax.checkpoint(
        inner.call, prevent_cse=eqn.params["prevent_cse"], policy=eqn.params["policy"]
    )
    return unpack(block(*arrays), inner.forms)


PROPAGATE: dict[str, Propagate] = dict.fromkeys((*IN_LINE, *BLOCKS), propagate)
EVALUATE: dict[str, Evaluate] = {
    **dict.fromkeys(IN_LINE, evaluate),
    **dict.fromkeys(BLOCKS, evaluate_block),
}
