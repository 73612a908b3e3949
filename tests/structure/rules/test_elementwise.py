"""Primitives that act entry by entry: what they tie, and what their removed entries hold."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from wormjax.structure._replay import Replay, Uniform, Value, zeros_removed
from wormjax.structure._trace import trace
from wormjax.structure.rules import EVALUATE, PROPAGATE


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


A, B, X = normal(4, 8), normal(4, 8), normal(5, 4)
ROW = normal(5, 1)


def ghost_of(function, param, other=None):
    """What the removed entries of ``function(param)`` hold along its last axis; those of ``other`` are unknown."""
    traced = trace(function, param, () if other is None else (other,), None, PROPAGATE)
    mask = np.arange(param.shape[-1]) % 2 == 0
    run = Replay(
        traced.dims, {traced.dims.find(traced.params[0][-1]): mask}, EVALUATE, traced.scope
    )
    operands = [zeros_removed(jnp.asarray(param[..., mask]))]
    if other is not None:
        operands.append(Value(jnp.asarray(other[..., mask])))
    [result] = run.closed(traced.closed, operands)
    found = result.ghost(result.array.ndim - 1)
    assert not isinstance(found, Uniform) or found.number.dtype == result.array.dtype
    return found


UNARY = [
    lax.abs, lax.asinh, lax.atan, lax.bessel_i0e, lax.bessel_i1e, lax.ceil, lax.cos, lax.cosh, lax.erf,
    lax.erfc, lax.exp, lax.exp2, lax.expm1, lax.floor, lax.is_finite, lax.logistic, lax.neg, lax.round, lax.sign,
    lax.sin, lax.sinh, lax.square, lax.tan, lax.tanh, lax.stop_gradient, jnp.copy, lambda x: lax.cbrt(x * x + 1.0),
    lambda x: lax.integer_pow(x, 3), lambda x: lax.convert_element_type(x, jnp.bfloat16),
    lambda x: lax.reduce_precision(x, 5, 10), lambda x: lax.complex(x, x).real, lambda x: lax.sqrt(x * x + 1.0),
    lambda x: lax.log1p(x * x), lambda x: lax.erf_inv(0.5 * lax.tanh(x)), lambda x: lax.lgamma(x * x + 1.0),
    lambda x: lax.rsqrt(x * x + 2.0), lambda x: lax.acos(0.5 * lax.tanh(x)), lambda x: lax.clamp(-0.5, x, 0.5),
    lambda x: lax.population_count(lax.convert_element_type(x, jnp.int32)), lambda x: lax.pow(x * x + 1.0, 1.5),
]  # fmt: skip


@pytest.mark.parametrize("f", UNARY)
def test_functions_of_one_operand(check_function, f):
    def apply(p, x):
        hidden = f(x @ p)
        # the sum asks for the removed entries
        return (
            lax.reduce_sum(hidden, (1,)) if hidden.dtype != bool else lax.reduce_and(hidden, (1,))
        )

    assert (
        check_function(apply, A, X, tolerance=2e-2 if f(X).dtype == jnp.bfloat16 else 1e-5).free
        == 1
    )


BINARY = [
    lax.add, lax.sub, lax.mul, lax.atan2, lax.max, lax.min, lambda x, y: lax.div(x, y * y + 1.0),
    lambda x, y: lax.rem(x, y * y + 1.0), lambda x, y: lax.pow(x * x + 1.0, y),
    lambda x, y: lax.nextafter(*map(lax.stop_gradient, (x, y))),
    lambda x, y: lax.select(x > y, x, lax.cos(y)), lambda x, y: lax.clamp(-lax.exp(x), y, lax.exp(x)),
]  # fmt: skip


@pytest.mark.parametrize("f", BINARY)
def test_functions_of_two_operands_tie_them(check_function, f):
    shift = 1.0 if f is lax.atan2 else 0.0  # it has no derivative at (0, 0)

    def apply(p, x):
        return lax.reduce_sum(f(x @ p["a"], shift + lax.sin(x @ p["b"])), (1,))

    checked = check_function(apply, {"a": A, "b": B}, X)
    assert checked.free == 1
    left, right = checked.traced.params
    assert checked.traced.dims.same(left[1], right[1])


def test_comparisons_and_integers(check_function):
    def apply(p, x):
        a, b = x @ p["a"], x @ p["b"]
        flags = [lax.eq(a, b), lax.ne(a, b), lax.gt(a, b), lax.ge(a, b), lax.lt(a, b), lax.le(a, b)]
        bits = [lax.convert_element_type(f, jnp.int32) for f in flags]
        bits = [
            *bits,
            bits[0] & bits[2],
            bits[1] | bits[3],
            bits[4] ^ bits[0],
            ~bits[0],
            bits[3] << 2,
            bits[3] >> 1,
        ]
        return [lax.reduce_sum(b, (1,)) for b in bits]

    assert check_function(apply, {"a": A, "b": B}, X).free == 1


def test_an_operand_of_size_one_is_repeated(check_function):
    def apply(p, x, row):
        hidden = x @ p["a"]
        results = [
            hidden * row,
            row + hidden,
            lax.div(hidden, 1.0 + row * row),
            lax.max(row, hidden),
        ]
        return [lax.reduce_sum(result, (1,)) for result in results]

    assert check_function(apply, {"a": A}, X, ROW).free == 1


def test_a_parameter_of_size_one_is_not_taken_for_a_removed_one(check_function):
    def apply(p, x):
        return lax.reduce_sum(x @ p["a"] + p["shift"], (1,))

    assert check_function(apply, {"a": A, "shift": ROW[:1]}, X).free == 1


def test_other_axes_of_an_operand_may_be_repeated(check_function):
    def apply(p, x):
        return lax.reduce_sum(lax.cos(x @ p["a"]) * p["scale"] + p["shift"], (1,))

    checked = check_function(apply, {"a": A, "scale": normal(1, 8), "shift": normal(1, 8)}, X)
    assert checked.free == 1
    assert all(len(checked.traced.dims.atoms(axes[0])) < 2 for axes in checked.traced.params[1:])


def test_scalars_of_the_text_stay_numbers():
    assert ghost_of(lambda a: lax.cos(a) * 3.0 + 1.0, A).number == 4
    assert ghost_of(lambda a: a + lax.sqrt(lax.convert_element_type(4, np.float32)), A).number == 2
    half = A.astype(jnp.bfloat16)
    assert ghost_of(lambda a: a + lax.convert_element_type(2, jnp.bfloat16), half).number == 2


SETTLED = {  # the other operand differs along the removed entries, as drawn numbers do
    "mul": lambda a, x: a * x,
    "mul, other way": lambda a, x: x * a,
    "div": lambda a, x: lax.div(a, x),
    "select of zeros": lambda a, x: lax.select(x > 0.0, a, -a),
    "selected by a number": lambda a, x: lax.select(lax.cos(a) > 0.0, a, x),
    "and": lambda a, x: (a > 0.0) & (x > 0.0),
}


@pytest.mark.parametrize("name", SETTLED)
def test_zero_whatever_the_other_operand(name):
    found = ghost_of(SETTLED[name], A, B)
    assert isinstance(found, Uniform)
    assert found.number == 0


OPEN = {
    "add": lambda a, x: a + x,
    "div by zero": lambda a, x: lax.div(x, a),
    "mul by a number": lambda a, x: x * lax.cos(a),
    "select": lambda a, x: lax.select(x > 0.0, a, lax.cos(a)),
    "selected by a number": lambda a, x: lax.select(a > 0.0, a, x) + lax.select(a > 0.0, x, x),
    "max": lambda a, x: lax.max(a, x),
}


@pytest.mark.parametrize("name", OPEN)
def test_unknown_where_the_other_operand_matters(name):
    assert ghost_of(OPEN[name], A, B) is None


def test_zero_times_infinity_is_not_called_zero():
    assert np.isnan(ghost_of(lambda a: a * lax.log(a * a), A).number)
    assert np.isnan(ghost_of(lambda a: lax.div(a, a), A).number)


def test_a_traced_scalar_is_repeated(check_function):
    def apply(p, x, s):
        return lax.reduce_sum(lax.cos(x @ p["a"]) * s + lax.exp(s), (1,))

    assert check_function(apply, {"a": A}, X, np.float32(0.3)).free == 1
