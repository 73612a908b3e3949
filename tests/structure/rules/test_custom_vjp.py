"""Functions with their own backward derivative keep it at smaller sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wormjax._masks import apply_masks
from wormjax.structure._groups import find_groups
from wormjax.structure._plan import plan
from wormjax.structure._replay import ReplayError
from wormjax.structure._shrink import shrink
from wormjax.structure._trace import trace
from wormjax.structure.rules import PROPAGATE


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


A, B = normal(5, 8), normal(8, 3)
PARAMS = {"a": A, "b": B}
X, ROW = normal(4, 5), normal(4, 1)


def with_rule(forward, backward, **options):
    """Decorate a function with a backward derivative."""

    def decorate(function):
        function = jax.custom_vjp(function, **options)
        function.defvjp(forward, backward)
        return function

    return decorate


@with_rule(lambda x: (rounded(x), ()), lambda _, g: (g,))  # its forward pass calls it
def rounded(x):
    return jnp.round(x)


@with_rule(lambda x: (x, None), lambda _, g: (jnp.clip(g, -0.1, 0.1),))
def clipped(x):  # its backward pass is not linear
    return x


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def reverse(strength, x):
    return x * 1.0


reverse.defvjp(lambda strength, x: (x, x), lambda strength, x, g: (-strength * g * jnp.sin(x),))


@with_rule(
    lambda x, k, s: (scaled(x, k, s), (x, s)),
    lambda kept, g: (2 * g[0] * kept[1], None, jnp.sum(g[0] * kept[0]) * jnp.ones_like(kept[1])),
)
def scaled(x, k, s):
    return x * s, k + 1


def standard_forward(x):
    y = x - jnp.mean(x, axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + 1e-2)
    return y * scale, (y * scale, scale)


def standard_backward(kept, g):
    y, scale = kept
    along = jnp.mean(g, axis=-1, keepdims=True) + y * jnp.mean(g * y, axis=-1, keepdims=True)
    return (scale * (g - along),)


@with_rule(standard_forward, standard_backward)
def standard(x):
    return standard_forward(x)[0]


@with_rule(
    lambda x, t: (threshold(x, t), x),
    lambda x, g: (g, -jnp.sum(g * jnp.exp(-x * x))),  # removed entries, 0, move with t
)
def threshold(x, t):
    return jnp.where(jnp.abs(x) > t[None, None], x, jnp.zeros_like(x))


def symbolic_forward(x, s):
    return x.value * s.value, (x.value, s.value)


def symbolic_backward(kept, g):
    zero = isinstance(g, jax.custom_derivatives.SymbolicZero)
    return (None, None) if zero else (3 * g * kept[1], jnp.sum(g * kept[0]).reshape(1, 1))


def symbolic(x, s):
    function = jax.custom_vjp(lambda x, s: x * s)
    function.defvjp(symbolic_forward, symbolic_backward, symbolic_zeros=True)
    return function(x, s)


FUNCTIONS = {
    "rounded": lambda x, p: rounded(3.0 * x),
    "clipped": lambda x, p: clipped(x),
    "reverse": lambda x, p: reverse(0.5, x),
    "standard": lambda x, p: standard(x),
    "threshold": lambda x, p: threshold(x, p["s"]),
    "two results": lambda x, p: scaled(x, 2, p["s"][None, None])[0],
    "symbolic": lambda x, p: symbolic(x, p["s"][None, None]),
    "under vmap": lambda x, p: jax.vmap(rounded)(3.0 * x),
    "in a loop": lambda x, p: jax.lax.fori_loop(0, 2, lambda _, c: reverse(0.5, c), x),
    "in a block": lambda x, p: jax.checkpoint(lambda x: reverse(0.5, x))(x),
}
WITH_S = {**PARAMS, "s": np.float32(0.3)}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=list(FUNCTIONS))
def test_a_function_passes_its_axis(check_function, function):
    def apply(p, x):  # the outer one has nothing to lose
        return reverse(0.3, jnp.tanh(function(x @ p["a"], p)) @ p["b"])

    checked = check_function(apply, WITH_S, X)
    assert checked.free == 1
    assert checked.traced.diagnostics == []


@pytest.mark.parametrize("name", ["rounded", "reverse", "standard", "threshold", "in a loop"])
def test_gradients_of_removed_entries_are_known(check_function, name):
    def apply(p, x, row):
        hidden = FUNCTIONS[name](x @ p["a"], p)  # removed entries hold a number, or an array:
        more = FUNCTIONS[name](jnp.cos(x @ p["a"]) * row, p)
        return jnp.sum(hidden + 0.5, axis=-1) ** 2, jnp.sum(jnp.sin(more), axis=-1) ** 2

    assert check_function(apply, {"a": A, "s": np.float32(0.3)}, X, ROW).free == 1


def test_a_backward_pass_that_is_not_linear_is_refused_on_removed_entries_that_move():
    def apply(p, x, row):
        return jnp.sum(clipped(x @ p["a"] + row), axis=-1)

    scores = {"a": jnp.abs(A)}
    planned = plan(find_groups(apply, {"a": A}, X, ROW), scores, keep=0.5)
    ticket = shrink(planned, {"a": A})
    with pytest.raises(ReplayError, match=r"custom_vjp_call.*not linear"):
        ticket.apply(ticket.params, X, ROW)


def test_what_a_function_returns_beside(check_function):
    def apply(p, x, k):
        hidden, k = scaled(x @ p["a"], k, p["s"][None, None])
        return hidden @ p["b"], k

    assert check_function(apply, WITH_S, X, np.int32(4)).free == 1


def test_an_array_that_a_function_captured_is_cut(check_function):
    scale = jnp.asarray(normal(8))

    @with_rule(lambda h: (function(h), h), lambda h, g: (3 * g * scale[None] * h,))
    def function(h):
        return h * scale[None]

    def apply(p, x):
        return jax.jit(function)(x @ p["a"]) @ p["b"]

    assert check_function(apply, PARAMS, X).free == 1


def test_second_derivatives_and_vmap():
    def apply(p, x):
        return jnp.sum((standard(jnp.tanh(x @ p["a"])) @ p["b"]) ** 2)

    planned = plan(find_groups(apply, PARAMS, X[0]), jax.tree.map(jnp.abs, PARAMS), keep=0.5)
    masked, ticket = apply_masks(PARAMS, planned.masks), shrink(planned, PARAMS)
    width = ticket.params["b"].shape[0]
    assert 1 <= width < 8
    twice = [
        jax.jit(jax.vmap(jax.jacrev(jax.grad(functools.partial(f, p)))))(X)
        for f, p in ((apply, masked), (ticket.apply, ticket.params))
    ]
    assert np.abs(twice[0]).max() > 0.1
    np.testing.assert_allclose(twice[1], twice[0], atol=1e-4 * np.abs(twice[0]).max())


def test_a_backward_pass_with_an_unknown_primitive_keeps_its_axes_whole():
    @with_rule(
        lambda x: (jnp.sin(x), x),
        lambda x, g: ((jnp.linalg.cholesky(x.T @ x + jnp.eye(8)) @ g.T).T,),
    )
    def function(x):
        return jnp.sin(x)

    def apply(p, x):
        return function(x @ p["a"]) @ p["b"]

    traced = trace(apply, PARAMS, [X], None, PROPAGATE)
    assert {reason.primitive for reason in traced.diagnostics} == {"cholesky"}
    [reason, *_] = traced.dims.reasons(traced.params[1][0])
    assert str(reason).startswith("no rule says what this primitive does to its axes [cholesky")


def test_a_backward_pass_that_groups_an_axis_differently_keeps_it_whole():
    @with_rule(
        lambda x: (x, ()), lambda _, g: (g.reshape(4, 2, 3).transpose(0, 2, 1).reshape(4, 6),)
    )
    def function(x):
        return x

    def apply(p, x):
        return function(x @ p["a"]) @ p["b"]

    traced = trace(apply, {"a": normal(5, 6), "b": normal(6, 3)}, [X], None, PROPAGATE)
    [reason, *_] = traced.dims.reasons(traced.params[1][0])
    assert str(reason).startswith("its derivative rule groups this axis differently [custom_vjp")


def test_a_function_without_floats_is_only_evaluated(check_function):
    @with_rule(lambda k: (k + 1, ()), lambda _, g: (None,))
    def function(k):
        return k + 1

    def apply(p, x):
        sign = function((x @ p["a"] > 0.0).astype(jnp.int32))
        return sign.astype(jnp.float32) @ p["b"]

    assert check_function(apply, PARAMS, X).free == 1
