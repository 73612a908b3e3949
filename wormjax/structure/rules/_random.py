"""Random numbers.

    bits[k, i] = draw(key[k], i)        one draw for each key, of a shape that the program's text says

What is drawn has axes of its own. At kept sizes the draw is made at full size and cut, so that every kept entry gets
the number that the full network gives it. Axes of the keys stay whole. Keys made from keys entry by entry pass.
``random_gamma`` draws by the size of its operand and has no rule, so it is a barrier.

Example: the (N, C) mask of a dropout is drawn as (N, C) and loses the columns of the pruned channels.
Jaxpr: ``random_bits[bit_width=32 shape=(3, 4)] key``; ``random_split[shape=(3,)] key``;
``rng_bit_generator[shape=(3, 4) dtype=uint32 algorithm=...] state`` -> state, bits; ``random_fold_in key 3``;
``random_wrap[impl=fry] a`` with a:u32[2]; ``threefry2x32 k1 k2 x1 x2`` -> y1, y2.
https://docs.jax.dev/en/latest/jax.random.html
"""

from collections.abc import Sequence

import numpy as np
from jax.extend.core import JaxprEqn

from wormjax.structure._replay import Evaluate, Replay, Value, bind
from wormjax.structure._trace import Axes, Propagate, Walk, shape_of
from wormjax.structure.rules import _elementwise, _passing

_DRAWS = ("random_bits", "random_split", "rng_bit_generator")
_ENTRY_BY_ENTRY = ("random_clone", "random_fold_in", "random_seed", "threefry2x32")
_WRAPPED = ("random_wrap", "random_unwrap")


def propagate_draw(walk: Walk, eqn: JaxprEqn, key: Axes) -> Sequence[Axes]:
    """Give the draw axes of its own."""
    results = [walk.fresh(shape_of(v)) for v in eqn.outvars]
    keys = (*key, *results[0][: len(key)])  # a bit generator's first result is its next state
    walk.fix(eqn, keys, "it is an axis of random keys")
    return results


def evaluate_draw(run: Replay, eqn: JaxprEqn, key: Value) -> Sequence[Value]:
    """Draw at full size and cut."""
    _, axes = run.axes_of(eqn)
    values = []
    for array, dims in zip(bind(eqn, [key.array]), axes, strict=True):
        for axis, dim in enumerate(dims):
            if run.is_pruned(dim):
                array = array.take(np.flatnonzero(run.kept(dim)), axis=axis)
        values.append(Value(array))
    return values


def evaluate_each(run: Replay, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """Make keys, or hash counters, where they are kept."""
    ranks = [len(shape_of(v)) for v in eqn.invars]
    return _passing.evaluate(
        eqn, operands, lambda _, axis: [axis if rank else None for rank in ranks]
    )


def propagate_wrapped(walk: Walk, eqn: JaxprEqn, operand: Axes) -> Sequence[Axes]:
    """Pass the keys' axes; the words of a key stay together."""
    words = walk.fresh(shape_of(eqn.outvars[0])[len(operand) :])
    rank = min(len(operand), len(shape_of(eqn.outvars[0])))
    walk.fix(eqn, (*words, *operand[rank:]), "it holds the words of a random key")
    return [(*operand[:rank], *words)]


PROPAGATE: dict[str, Propagate] = {
    **dict.fromkeys(_DRAWS, propagate_draw),
    **dict.fromkeys(_ENTRY_BY_ENTRY, _elementwise.propagate),
    **dict.fromkeys(_WRAPPED, propagate_wrapped),
}
EVALUATE: dict[str, Evaluate] = {
    **dict.fromkeys(_DRAWS, evaluate_draw),
    **dict.fromkeys(_ENTRY_BY_ENTRY, evaluate_each),
    **dict.fromkeys(_WRAPPED, evaluate_each),
}
