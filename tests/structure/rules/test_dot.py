"""Contractions in all layouts."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from wormjax.structure._replay import ReplayError
from wormjax.structure._trace import trace
from wormjax.structure.rules import PROPAGATE


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


A, B, E, X = normal(4, 8), normal(8, 3), normal(4, 6), normal(5, 4)


def dot(left, right, contracting, batch=((), ()), **how):
    return lax.dot_general(left, right, (contracting, batch), **how)


def test_hidden_units(check_function):
    checked = check_function(lambda p, x: lax.tanh(x @ p["a"]) @ p["b"], {"a": A, "b": B}, X)
    assert checked.free == 1
    (left, right), dims = checked.traced.params, checked.traced.dims
    assert dims.same(left[1], right[0])
    assert "input" in dims.reasons(left[0])[0].why
    assert "output" in dims.reasons(right[1])[0].why


# the same two layers with the hidden units everywhere they can be
LAYOUTS = {
    "x a b": (A, B, lambda a, b, x: dot(dot(x, a, ((1,), (0,))), b, ((1,), (0,)))),
    "x a' b": (A.T, B, lambda a, b, x: dot(dot(x, a, ((1,), (1,))), b, ((1,), (0,)))),
    "(a' x)' b": (A, B, lambda a, b, x: dot(dot(a, x, ((0,), (1,))), b, ((0,), (0,)))),
    "b' (a' x)": (A, B, lambda a, b, x: dot(b, dot(a, x, ((0,), (1,))), ((0,), (0,)))),
    "b (x a')'": (A.T, B.T, lambda a, b, x: dot(b, dot(x, a, ((1,), (1,))), ((1,), (1,)))),
    "(a b)' x": (A, B, lambda a, b, x: dot(dot(a, b, ((1,), (0,))), x, ((0,), (1,)))),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(check_function, name):
    a, b, f = LAYOUTS[name]
    assert check_function(lambda p, x: f(p["a"], p["b"], x), {"a": a, "b": b}, X).free == 1


def test_a_batch_axis_ties_both_operands_and_passes(check_function):
    def apply(p, x):  # one small matrix for each of 8 units
        hidden = x @ p["a"]
        mixed = dot(hidden, p["each"], ((), ()), ((1,), (0,)))  # (8, 5, 7)
        return dot(mixed, p["b"], ((0, 2), (0, 1)))

    params = {"a": A, "each": normal(8, 7), "b": normal(8, 7, 3)}
    checked = check_function(apply, params, X)
    assert checked.free == 2
    (a, b, each), dims = checked.traced.params, checked.traced.dims
    assert dims.same(a[1], each[0])
    assert dims.same(a[1], b[0])
    assert dims.same(each[1], b[1])


CONTRACTED = {  # what the removed entries of both factors hold
    "zero, zero": lambda p, x, row: (x @ p["a"], p["b"]),
    "number, zero": lambda p, x, row: (lax.cos(x @ p["a"]), p["b"]),
    "zero, number": lambda p, x, row: (x @ p["a"], lax.cos(p["b"])),
    "number, number": lambda p, x, row: (lax.cos(x @ p["a"]), lax.exp(p["b"])),
    "row, number": lambda p, x, row: (x @ p["a"] + row, lax.exp(p["b"])),
    "row, row": lambda p, x, row: (x @ p["a"] + row, lax.exp(p["b"]) * row[:1, :1] + row[:1, :1]),
}


@pytest.mark.parametrize("name", CONTRACTED)
def test_removed_entries_of_a_contracted_axis(check_function, name):
    def apply(p, x, row):
        left, right = CONTRACTED[name](p, x, row)
        return dot(left, right, ((1,), (0,))), dot(right, left, ((0,), (1,)))

    assert check_function(apply, {"a": A, "b": B}, X, normal(5, 1)).free == 1


def test_two_contracted_axes(check_function):
    def apply(p, x):
        outer = dot(x @ p["a"], x @ p["e"], ((), ()), ((0,), (0,)))  # (5, 8, 6)
        return dot(lax.cos(outer), p["c"], ((1, 2), (0, 1)))

    assert check_function(apply, {"a": A, "e": E, "c": normal(8, 6, 3)}, X).free == 2


def test_what_removed_entries_of_the_result_hold(check_function):
    def apply(p, x, row):
        left, right = lax.cos(x @ p["a"]), lax.exp(p["b"])  # free: 8, and 3 of b tied to c
        product = dot(left, p["m"], ((1,), (0,)))  # zero where m is removed
        number = dot(left, lax.exp(p["m"]), ((1,), (0,)))
        batch = dot(x @ p["a"], left * row, ((0,), (0,)))  # (8, 8)
        each = dot(left, left + row, ((), ()), ((1,), (1,)))  # (8, 5, 5)
        return (
            lax.reduce_sum(lax.cos(product), (1,)),
            lax.reduce_sum(lax.sin(number), (1,)),
            lax.reduce_sum(each, (0,)),
            lax.reduce_sum(batch, (0,)) @ right,
        )

    params = {"a": A, "b": B, "m": normal(8, 7)}
    assert check_function(apply, params, X, normal(5, 1)).free == 2


def test_accumulating_in_another_type(check_function):
    def apply(p, x):
        hidden = lax.convert_element_type(lax.cos(x @ p["a"]), jnp.bfloat16)
        narrow = lax.convert_element_type(lax.exp(p["b"]), jnp.bfloat16)
        return dot(hidden, narrow, ((1,), (0,)), preferred_element_type=np.float32)

    checked = check_function(apply, {"a": A, "b": B}, X, tolerance=2e-2)
    assert checked.free == 1


def test_unknown_removed_entries_are_an_error(check_function):
    def apply(p, state, x):  # nothing says what the removed entries of the state hold
        return dot(lax.cos(x @ p["a"]) + state, lax.exp(p["b"]), ((1,), (0,))), state

    with pytest.raises(
        ReplayError, match=r"dot_general at test_dot.py:\d+: it sums over a pruned axis"
    ):
        check_function(apply, {"a": A, "b": B}, X, state=normal(1, 8))


def test_entries_removed_twice_must_be_numbers(check_function):
    def apply(p, x, row):  # (8, 8): both factors are rows where a unit is gone
        hidden = lax.cos(x @ p["a"]) * row
        outer = dot(hidden, hidden, ((), ()), ((0,), (0,)))  # (5, 8, 8)
        return lax.reduce_sum(dot(outer, lax.exp(p["b"]), ((1,), (0,))), (1,))

    with pytest.raises(ReplayError, match=r"reduce_sum at test_dot.py:\d+: "):
        check_function(apply, {"a": A, "b": B}, X, normal(5, 1))


def test_a_ragged_contraction_is_a_barrier():
    def apply(p, x):
        return lax.ragged_dot(x @ p["a"], p["b"][None], np.asarray([5], np.int32))

    traced = trace(apply, {"a": A, "b": B}, (X,), None, PROPAGATE)
    [reason] = traced.dims.reasons(traced.params[0][1])
    assert reason.primitive.startswith("ragged_dot")
    assert reason.source.startswith("test_dot.py:")
