"""Primitives that act on every entry by itself.

    out[i, j, ...] = f(x[i, j, ...], y[i, j, ...], ...)

Operands have the result's shape, or are scalars, or have size 1 where the result is larger; an axis of the result is
the axis of every operand that has its full size there. So removed entries of the result are f of the operands'
removed entries; a product with zero is zero whatever the finite other factor, and a selection is one of its cases.

Example: ``add`` of a (N, C) activation and a (N, C) residual ties the two producers of C.
Jaxpr: ``add a b`` with a:f32[2,6] and b:f32[2,6], b:f32[1,6] or b:f32[].
https://docs.jax.dev/en/latest/jax.lax.html#operators
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal, Var

from wormjax.structure._replay import Evaluate, Ghost, Replay, Uniform, Value, bind, uniform
from wormjax.structure._trace import Axes, Propagate, Walk, shape_of
from wormjax.structure.rules import _passing
from wormjax.structure.rules._passing import is_zero, zero

NAMES = """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz complex conj
    convert_element_type copy copy_p cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma
    igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p log2 logistic lt lt_to max min mul
    mulhi ne neg nextafter not one_minus_square or polygamma polynomial population_count pow real reduce_precision
    regularized_incomplete_beta rem round rsqrt select_n shift_left shift_right_arithmetic shift_right_logical sign
    sin sinh sqrt square stop_gradient sub tan tanh xor zeta
""".split()  # noqa: SIM905


def propagate(walk: Walk, eqn: JaxprEqn, *operands: Axes) -> Sequence[Axes]:
    """Tie the operands axis by axis."""
    shape = shape_of(eqn.outvars[0])
    result = []
    for axis, size in enumerate(shape):
        first, *others = (
            axes[axis] for axes in operands if len(axes) == len(shape) and axes[axis].size == size
        )
        for other in others:
            walk.unify(eqn, (first,), (other,))
        result.append(first)
    return [tuple(result) for _ in eqn.outvars]


def evaluate(run: Replay, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """Apply the primitive to what is kept, and, on demand, to what stands for the removed entries."""
    shape = shape_of(eqn.outvars[0])
    numbers = [_number(v, x) for v, x in zip(operands, eqn.invars, strict=True)]
    if not shape and None not in numbers and not eqn.primitive.multiple_results:
        return [Value(uniform(eqn, numbers).number)]  # a number of the program's text stays one
    results = bind(eqn, [v.array for v in operands])

    def ghost_of(which: int) -> Callable[[int], Ghost]:
        def ghost(axis: int) -> Ghost:
            inner = [
                v.ghost(axis) if _lies_along(x, axis, shape) else _whole(v, number)
                for v, x, number in zip(operands, eqn.invars, numbers, strict=True)
            ]
            if eqn.primitive.name in _SETTLED:
                settled = _SETTLED[eqn.primitive.name](results[which], inner)
                if settled is not None:
                    return settled
            if any(g is None for g in inner):
                return None
            known = [g.number for g in inner if isinstance(g, Uniform)]
            if len(known) == len(inner) and len(results) == 1:
                return uniform(eqn, known)
            small = [1 if k == axis else n for k, n in enumerate(results[which].shape)]
            slices = [jnp.full(small, g.number) if isinstance(g, Uniform) else g for g in inner]
            return bind(eqn, slices)[which]

        return ghost

    def each_of(which: int) -> Callable[[int], Any]:
        def each(axis: int) -> Any:
            count = run.removed(run.axes_of(eqn)[1][which][axis])
            entries = [count if k == axis else n for k, n in enumerate(results[which].shape)]
            inner = [
                _passing.one_by_one(v, axis, count)
                if _lies_along(x, axis, shape)
                else (v.array if jnp.ndim(v.array) == 0 else jnp.broadcast_to(v.array, entries))
                for v, x in zip(operands, eqn.invars, strict=True)
            ]
            return None if any(x is None for x in inner) else bind(eqn, inner)[which]

        return each

    return [Value(result, ghost_of(k), each_of(k)) for k, result in enumerate(results)]


def _number(value: Value, variable: Var | Literal) -> np.ndarray | None:
    """A scalar operand that is known while tracing."""
    if isinstance(value.array, np.generic | np.ndarray | complex | float | int):
        number = np.asarray(value.array, variable.aval.dtype)  # type: ignore[attr-defined]
        return number if number.ndim == 0 else None
    return None


def _lies_along(variable: Var | Literal, axis: int, shape: tuple[int, ...]) -> bool:
    own = shape_of(variable)
    return len(own) == len(shape) and own[axis] == shape[axis]


def _whole(value: Value, number: np.ndarray | None) -> Any:
    """An operand that the result repeats along an axis is the same in its removed entries."""
    return value.array if number is None else Uniform(number)


def _product(result: Any, inner: Sequence[Any]) -> Ghost:
    """Zero where one factor's removed entries are, and the other's are finite as far as anyone knows."""
    unknown = [g for g in inner if not isinstance(g, Uniform)]
    return zero(result) if unknown and any(map(is_zero, inner)) else None


def _quotient(result: Any, inner: Sequence[Any]) -> Ghost:
    return zero(result) if is_zero(inner[0]) and not isinstance(inner[1], Uniform) else None


def _selection(_: Any, inner: Sequence[Any]) -> Ghost:
    """The case that is chosen in all removed entries, or what all cases hold there."""
    which, *cases = inner
    if isinstance(which, Uniform):
        return cases[int(which.number)]
    if all(isinstance(g, Uniform) and np.array_equal(g.number, cases[0].number) for g in cases):
        return cases[0]
    return None


# what removed entries hold although some operand's are unknown or differ; None where that settles nothing
_SETTLED: dict[str, Callable[[Any, Sequence[Any]], Ghost]] = {
    "mul": _product,
    "and": _product,
    "div": _quotient,
    "select_n": _selection,
}

PROPAGATE: dict[str, Propagate] = dict.fromkeys(NAMES, propagate)
EVALUATE: dict[str, Evaluate] = dict.fromkeys(NAMES, evaluate)
