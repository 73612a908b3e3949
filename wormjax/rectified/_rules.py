"""What every primitive does to a signal.

    linear in the input     reshape, slice, sum, pad, ... : applied to the array
    signal with fixed       + and - drop the fixed one, * and / take it by its origin, products take it as a matrix
    signal with signal      + and - add, max takes the larger, concatenate joins
    rectifiers              max and min with a fixed number, comparisons
    statistics              squares, their sums and what a normalisation makes of them

Anything else is unknown: an error if the output depends on it.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn
from jaxtyping import Array

from wormjax.rectified._run import Rule, Run, bind, shape_of
from wormjax.rectified._values import LITERAL, SCALE, WEIGHT, Fixed, Gate, Signal, Statistic, Value

_FORM = (
    *(
        "reshape",
        "transpose",
        "broadcast_in_dim",
        "squeeze",
        "expand_dims",
        "slice",
        "rev",
        "split",
    ),
    *("convert_element_type", "reduce_precision", "copy", "copy_p", "stop_gradient", "name"),
    *("dynamic_slice", "gather", "sharding_constraint", "optimization_barrier", "real", "pvary"),
)
# the same numbers in another form: what is subtracted from one may be the mean of the other
_SAME = (
    *("reshape", "transpose", "squeeze", "expand_dims", "convert_element_type", "copy", "name"),
    *("reduce_precision", "stop_gradient", "sharding_constraint", "optimization_barrier"),
)
_SUMS = ("reduce_sum", "reduce_window_sum", "cumsum")
_LARGEST = ("reduce_max", "reduce_window_max", "cummax")
_OF_VARIANCE = (
    "add",
    "sub",
    "max",
    "rsqrt",
    "sqrt",
    "integer_pow",
    "pow",
    "mul",
    "div",
    "select_n",
)
_MORE, _LESS = ("gt", "ge"), ("lt", "le")


def _form(run: Run, eqn: JaxprEqn, *operands: Value) -> Sequence[Value] | None:
    first, *rest = operands
    if any(not isinstance(v, Fixed) for v in rest):
        return None
    found = bind(eqn, operands)
    if isinstance(first, Signal):
        same: dict[str, Any] = {"mean_of": first.mean_of}
        if eqn.primitive.name in _SAME:
            same["root"] = first.root
        return [Signal(x, first.exponent, **same) for x in found]
    if isinstance(first, Gate):
        return [Gate(x) for x in found]
    return [Statistic(x, first.reduced) for x in found] if isinstance(first, Statistic) else None


def _sum(run: Run, eqn: JaxprEqn, x: Value) -> Sequence[Value] | None:
    [found] = bind(eqn, [x])
    if isinstance(x, Signal):
        return [run.signal(found, x.exponent, mean_of=x.root)]
    return [Statistic(found, True)] if isinstance(x, Statistic) else None


def _largest(run: Run, eqn: JaxprEqn, x: Value) -> Sequence[Value] | None:
    return [Signal(bind(eqn, [x])[0], x.exponent)] if isinstance(x, Signal) else None


def _pad(run: Run, eqn: JaxprEqn, x: Value, filler: Value) -> Sequence[Value] | None:
    if not isinstance(x, Signal) or not isinstance(filler, Fixed):
        return None
    if not run.literal:  # a shift like others; an infinity is the border of a max pooling
        value = jnp.where(jnp.isinf(filler.array), filler.array, jnp.zeros_like(filler.array))
        filler = Fixed(value)
    return [Signal(bind(eqn, [x, filler])[0], x.exponent)]


def _neg(run: Run, eqn: JaxprEqn, x: Value) -> Sequence[Value] | None:
    if not isinstance(x, Signal):
        return None
    return [Signal(bind(eqn, [x])[0])] if run.literal else [x]


def _add(run: Run, eqn: JaxprEqn, a: Value, b: Value) -> Sequence[Value] | None:
    if isinstance(a, Statistic) or isinstance(b, Statistic):
        return _of_variance(run, eqn, a, b)
    if isinstance(a, Signal) and isinstance(b, Signal):
        if run.literal:
            return [Signal(bind(eqn, [a, b])[0])]
        if eqn.primitive.name == "sub" and b.mean_of is not None and b.mean_of is a.root:
            return [a]  # centred by a normalisation
        arrays, exponent = run.together([a, b])
        return [run.signal(arrays[0] + arrays[1], exponent)]
    if isinstance(a, Gate) or isinstance(b, Gate):
        return _logic(run, eqn, a, b)
    if run.literal:
        return [Signal(bind(eqn, [a, b])[0])]
    return [_wide(eqn, a if isinstance(a, Signal) else b)]  # without the shift


def _mul(run: Run, eqn: JaxprEqn, a: Value, b: Value) -> Sequence[Value] | None:
    signal, other = (a, b) if isinstance(a, Signal) else (b, a)
    if not isinstance(signal, Signal):
        return _of_variance(run, eqn, a, b) or _logic(run, eqn, a, b)
    if isinstance(other, Signal):
        return [Statistic(bind(eqn, [a, b])[0], False)] if signal.root is other.root else None
    return _scaled(run, eqn, signal, other, [a, b])


def _div(run: Run, eqn: JaxprEqn, a: Value, b: Value) -> Sequence[Value] | None:
    if isinstance(a, Signal):
        return None if isinstance(b, Signal) else _scaled(run, eqn, a, b, [a, b])
    return None if isinstance(b, Signal) else _of_variance(run, eqn, a, b)


def _scaled(
    run: Run, eqn: JaxprEqn, signal: Signal, other: Value, operands: list[Value]
) -> Sequence[Value] | None:
    if isinstance(other, Statistic) and not other.reduced:
        return None
    if run.literal or isinstance(other, Gate):
        return [Signal(bind(eqn, operands)[0], signal.exponent)]
    if isinstance(other, Statistic):
        return [_wide(eqn, signal)]
    if not isinstance(other, Fixed):
        return None
    if other.origin == SCALE and run.factor is None:
        return [_wide(eqn, signal)]
    known = {LITERAL: jnp.abs, SCALE: run.factor, WEIGHT: _as_it_is}[other.origin]
    new = Fixed(known(jnp.asarray(other.array)))  # type: ignore[misc]
    [found] = bind(eqn, [new if v is other else v for v in operands])
    if other.origin == LITERAL:
        return [Signal(found, signal.exponent, mean_of=signal.mean_of)]
    return [run.signal(found, signal.exponent)]


def _square(run: Run, eqn: JaxprEqn, x: Value) -> Sequence[Value] | None:
    if isinstance(x, Signal) and eqn.params.get("y", 2) == 2:
        return [Statistic(bind(eqn, [x])[0], False)]
    return _of_variance(run, eqn, x)


def _of_variance(run: Run, eqn: JaxprEqn, *operands: Value) -> Sequence[Value] | None:
    if not all(isinstance(v, Fixed | Statistic) for v in operands):
        return None
    reduced = any(isinstance(v, Statistic) and v.reduced for v in operands)
    return [Statistic(bind(eqn, operands)[0], reduced)]


def _limit(run: Run, eqn: JaxprEqn, a: Value, b: Value) -> Sequence[Value] | None:
    if isinstance(a, Signal) and isinstance(b, Signal):
        arrays, exponent = run.together([a, b])
        return [Signal(bind(eqn, [Gate(x) for x in arrays])[0], exponent)]
    signal, bound = (a, b) if isinstance(a, Signal) else (b, a)
    if not isinstance(signal, Signal) or not isinstance(bound, Fixed):
        return _of_variance(run, eqn, a, b)
    below = eqn.primitive.name == "min"

    def decision() -> Array:
        wide, limit = jnp.asarray(signal.array), jnp.asarray(bound.array, signal.array.dtype)
        limit = jnp.broadcast_to(limit, shape_of(eqn))
        wide = jnp.broadcast_to(wide, limit.shape)
        return wide < limit if below else wide > limit

    gate = run.decide(decision, True)
    if run.rectifiers == "record":
        return [Signal(bind(eqn, [a, b])[0])]
    wide = _wide(eqn, signal).array
    rest = jnp.asarray(bound.array if run.literal else 0, wide.dtype)
    settled = jnp.where(gate, wide, jnp.broadcast_to(rest, wide.shape))
    return [Signal(settled, signal.exponent)]


def _compare(run: Run, eqn: JaxprEqn, a: Value, b: Value) -> Sequence[Value] | None:
    pair = (type(a), type(b))
    if pair not in ((Signal, Fixed), (Fixed, Signal)):
        return None
    positive = (eqn.primitive.name in _MORE) == (pair == (Signal, Fixed))
    return [Gate(run.decide(lambda: bind(eqn, [a, b])[0], positive))]


def _logic(run: Run, eqn: JaxprEqn, *operands: Value) -> Sequence[Value] | None:
    gates = all(isinstance(v, Fixed | Gate) for v in operands)
    return [Gate(x) for x in bind(eqn, operands)] if gates else None


def _select(run: Run, eqn: JaxprEqn, which: Value, *cases: Value) -> Sequence[Value] | None:
    if not isinstance(which, Fixed | Gate):
        return None
    if all(isinstance(v, Fixed | Statistic) for v in cases) and isinstance(which, Fixed):
        return _of_variance(run, eqn, which, *cases)
    if not all(isinstance(v, Fixed | Signal) for v in cases):
        return None
    signals = [v for v in cases if isinstance(v, Signal)]
    if not signals:  # a fixed number or another, by the signal: a slope
        return [Gate(x) for x in bind(eqn, [which, *cases])]
    arrays, exponent = run.together(signals)
    of = iter(arrays)
    new = [next(of) if isinstance(v, Signal) else _shift(run, v) for v in cases]
    return [Signal(bind(eqn, [which, *(Gate(x) for x in new)])[0], exponent)]


def _concatenate(run: Run, eqn: JaxprEqn, *operands: Value) -> Sequence[Value] | None:
    if not all(isinstance(v, Fixed | Signal) for v in operands):
        return None
    arrays, exponent = run.together([v for v in operands if isinstance(v, Signal)])
    of = iter(arrays)
    parts = [next(of) if isinstance(v, Signal) else _shift(run, v) for v in operands]
    return [Signal(bind(eqn, [Gate(x) for x in parts])[0], exponent)]


def _product(run: Run, eqn: JaxprEqn, a: Value, b: Value) -> Sequence[Value] | None:
    operands, signal = [a, b], a if isinstance(a, Signal) else b
    other = b if signal is a else a
    if not isinstance(signal, Signal) or not isinstance(other, Fixed | Gate):
        return None
    run.products.append(other.leaves if isinstance(other, Fixed) else frozenset())
    if isinstance(other, Fixed) and not run.literal and other.origin != WEIGHT:
        change = jnp.abs if other.origin == LITERAL else run.matrix
        new = Fixed(change(jnp.asarray(other.array)))
        operands = [new if v is other else v for v in operands]
    return [run.signal(bind(eqn, operands)[0], signal.exponent)]


def _shift(run: Run, x: Value) -> Array:
    """Return what a fixed value is beside signals: itself where the program is run as written, else nothing."""
    assert isinstance(x, Fixed)
    return x.array if run.literal else jnp.zeros_like(jnp.asarray(x.array))


def _wide(eqn: JaxprEqn, x: Value) -> Signal:
    """Return a signal in the shape of the equation's result."""
    assert isinstance(x, Signal)
    shape = shape_of(eqn)
    if np.shape(x.array) == shape:
        return x
    return Signal(jnp.broadcast_to(x.array, shape), x.exponent, mean_of=x.mean_of)


def _as_it_is(x: Array) -> Array:
    return x


RULES: dict[str, Rule] = {
    **dict.fromkeys(_FORM, _form),
    **dict.fromkeys(_SUMS, _sum),
    **dict.fromkeys(_LARGEST, _largest),
    **dict.fromkeys(_OF_VARIANCE, _of_variance),
    **dict.fromkeys((*_MORE, *_LESS), _compare),
    **dict.fromkeys(("and", "or", "not"), _logic),
    **dict.fromkeys(("add", "add_any", "sub"), _add),
    **dict.fromkeys(("max", "min"), _limit),
    **dict.fromkeys(("square", "integer_pow"), _square),
    **dict.fromkeys(("conv_general_dilated", "dot_general"), _product),
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "pad": _pad,
    "select_n": _select,
    "concatenate": _concatenate,
}
