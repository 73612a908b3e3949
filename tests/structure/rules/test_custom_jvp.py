"""Functions with their own forward derivative keep it at smaller sizes."""

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
X = normal(4, 5)
X[1] = 0.0  # a whole row of the hidden layer is exactly 0, kept entries too


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def leaky(x, slope):
    return jnp.maximum(x, slope * x)


@leaky.defjvp
def _(slope, primals, tangents):
    [x], [dx] = primals, tangents
    return leaky(x, slope), jnp.where(x > 0, dx, slope * dx)  # slope at 0, which max has not


@jax.custom_jvp
def gated(x, which, gate):
    return jnp.sin(x) * gate[which], which + 1


@gated.defjvp
def _(primals, tangents):
    [x, which, gate], [dx, _, dgate] = primals, tangents
    y = gated(x, which, gate)
    moved = jnp.sin(x) * dgate[which] + 2 * jnp.cos(x) * gate[which] * dx
    return y, (moved, np.zeros(which.shape, jax.dtypes.float0))


@jax.custom_jvp
def exponential(x):
    return jnp.exp(x)


exponential.defjvps(lambda dx, y, x: 0.5 * dx * y)  # its rule calls it again


@jax.custom_jvp
def threshold(x, t):
    return jnp.where(jnp.abs(x) > t, x, jnp.zeros_like(x))


@threshold.defjvp
def _(primals, tangents):
    [x, t], [dx, dt] = primals, tangents
    return threshold(x, t), dx - jnp.exp(-x * x) * dt  # not 0 where x is


ACTIVATIONS = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "exact gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "log_sigmoid": jax.nn.log_sigmoid,
    "leaky": lambda x: leaky(x, 0.2),
    "exponential": exponential,
    "under vmap": jax.vmap(jax.nn.relu),
    "under jit": jax.jit(lambda x: jax.nn.relu(x) + exponential(x)),
    "in a loop": lambda x: jax.lax.fori_loop(0, 3, lambda _, c: jax.nn.relu(c) + 0.1, x),
    "threshold": lambda x: threshold(x, jnp.full_like(x, 0.3)),
    "softmax": lambda x: jax.nn.softmax(x, axis=0),
}


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=list(ACTIVATIONS))
def test_an_activation_passes_its_axis(check_function, activation):
    def apply(p, x):  # the outer one has nothing to lose
        return leaky(activation(x @ p["a"]) @ p["b"], 0.3)

    checked = check_function(apply, PARAMS, X)
    assert checked.free == 1
    assert checked.traced.diagnostics == []


@pytest.mark.parametrize("name", ["relu", "silu", "leaky", "exponential", "in a loop", "softmax"])
def test_removed_entries_are_known_behind_an_activation(check_function, name):
    activation = ACTIVATIONS[name]

    def apply(p, x, row):
        first = activation(x @ p["a"]).sum(axis=-1)  # a number at removed entries
        return first + activation(x @ p["a"] + row).sum(axis=-1)  # an array with a gradient

    assert check_function(apply, {"a": A}, X, normal(4, 1)).free == 1


def test_a_reduction_inside_a_function_counts_removed_entries(check_function):
    def apply(p, x):
        return jax.nn.logsumexp(x @ p["a"], axis=-1), normalised(x @ p["a"]) @ p["b"]

    @jax.custom_jvp
    def normalised(x):
        return x / jnp.sum(jnp.exp(x), axis=-1, keepdims=True)

    @normalised.defjvp
    def _(primals, tangents):
        return jax.jvp(lambda x: x / jnp.exp(x).sum(-1, keepdims=True), primals, tangents)

    assert check_function(apply, PARAMS, X).free == 1


def test_integers_have_no_tangent(check_function):
    def apply(p, x, which):
        hidden, more = gated(x @ p["a"], which, p["gate"])
        return hidden @ p["b"], more

    params = {**PARAMS, "gate": normal(6)}
    assert check_function(apply, params, X, np.int32(2)).free == 1


def test_a_number_with_a_tangent_is_not_constant(check_function):
    def apply(p, x):  # each removed entry is 0, and moves with t
        return threshold(x @ p["a"], p["t"][None, None]).sum(axis=-1)

    assert check_function(apply, {"a": A, "t": np.float32(0.3)}, X).free == 1


def scaled_by(scale):
    @jax.custom_jvp
    def scaled(h):
        return h * scale[None]

    scaled.defjvps(lambda dh, y, h: 3 * dh * scale[None])
    return scaled


def test_an_array_that_a_function_captured_is_cut(check_function):
    scaled = scaled_by(jnp.asarray(normal(8)))

    def apply(p, x):
        return jax.jit(scaled)(x @ p["a"]) @ p["b"]

    assert check_function(apply, PARAMS, X).free == 1


def test_a_function_around_traced_values_keeps_its_axes_whole():
    def apply(p, x):
        return scaled_by(p["s"])(x @ p["a"]) @ p["b"]

    traced = trace(apply, {**PARAMS, "s": normal(8)}, [X], None, PROPAGATE)
    [reason] = traced.diagnostics
    assert "closes over traced values" in reason.why
    assert reason.primitive == "custom_jvp_call"
    assert traced.dims.reasons(traced.params[1][0]) == [reason]


def magnitude_ticket(apply, params, *inputs):
    """Masked parameters and a ticket at half width."""
    scores = jax.tree.map(jnp.abs, params)
    planned = plan(find_groups(apply, params, *inputs), scores, keep=0.5, scope="group")
    return apply_masks(params, planned.masks), shrink(planned, params)


def test_second_derivatives_and_vmap():
    def apply(p, x):
        hidden = exponential(jax.nn.silu(x @ p["a"])) + jax.nn.relu(x @ p["a"])
        return (leaky(hidden, 0.1) @ p["b"]).sum()

    masked, ticket = magnitude_ticket(apply, PARAMS, X[0])
    assert ticket.params["a"].shape == (5, 4)
    for transform in (jax.hessian, jax.jacfwd, lambda f: jax.jacfwd(jax.jacrev(jax.grad(f)))):
        want = jax.jit(jax.vmap(transform(functools.partial(apply, masked))))(X)
        got = jax.jit(jax.vmap(transform(functools.partial(ticket.apply, ticket.params))))(X)
        assert np.abs(want).max() > 1e-2
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


def test_second_derivatives_of_a_number_with_a_tangent():
    def apply(p, x, t):
        return jnp.sum(threshold(threshold(x @ p["a"], t[None, None]) ** 2, t[None, None]))

    masked, ticket = magnitude_ticket(apply, {"a": A}, X, np.float32(0.3))
    want = jax.grad(jax.grad(apply, argnums=2), argnums=2)(masked, X, jnp.float32(0.3))
    got = jax.grad(jax.grad(ticket.apply, argnums=2), argnums=2)(ticket.params, X, jnp.float32(0.3))
    assert abs(want) > 1
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_a_rule_with_an_unknown_primitive_keeps_its_axes_whole():
    @jax.custom_jvp
    def function(x):
        return jnp.sin(x)

    @function.defjvp
    def _(primals, tangents):
        [x], [dx] = primals, tangents
        return function(x), (jnp.linalg.cholesky(x.T @ x + jnp.eye(8)) @ dx.T).T

    def apply(p, x):
        return function(x @ p["a"]) @ p["b"]

    traced = trace(apply, PARAMS, [X], None, PROPAGATE)
    assert {reason.primitive for reason in traced.diagnostics} == {"cholesky"}
    [reason] = traced.dims.reasons(traced.params[1][0])[:1]
    assert "no rule says" in str(reason)


def test_a_rule_that_groups_an_axis_differently_keeps_it_whole():
    @jax.custom_jvp
    def function(x):
        return jnp.sin(x)

    @function.defjvp
    def _(primals, tangents):
        [x], [dx] = primals, tangents
        return function(x), dx.reshape(4, 2, 3).transpose(0, 2, 1).reshape(4, 6)

    def apply(p, x):
        return function(x @ p["a"]) @ p["b"]

    traced = trace(apply, {"a": normal(5, 6), "b": normal(6, 3)}, [X], None, PROPAGATE)
    [reason, *_] = traced.dims.reasons(traced.params[1][0])
    assert str(reason).startswith("its derivative rule groups this axis differently [custom_jvp")


def test_a_higher_derivative_that_needs_removed_entries_is_refused():
    scale = jnp.asarray(normal(8))

    @jax.custom_jvp
    def function(x, t):
        return x * 1.0

    @function.defjvp
    def _(primals, tangents):  # removed entries of x, 0, do not move; those of x + 1 do, by scale
        [x, t], [dx, dt] = primals, tangents
        return function(x, t), dx * function(x + 1.0, t) + dt * x * scale[None]

    def apply(p, x, t):
        return jnp.sum(function(x @ p["a"], t[None, None]) @ p["b"])

    masked, ticket = magnitude_ticket(apply, PARAMS, X, np.float32(0.3))
    want, got = (
        jax.grad(f, argnums=1)(p, X, jnp.float32(0.3))
        for f, p in ((apply, masked), (ticket.apply, ticket.params))
    )
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    with pytest.raises(ReplayError, match=r"custom_jvp_call.*higher derivatives"):
        jax.grad(jax.grad(ticket.apply, argnums=2), argnums=2)(ticket.params, X, jnp.float32(0.3))


def test_a_rule_that_fails_keeps_its_axes_whole(check_function):
    @jax.custom_jvp
    def function(x):
        return jnp.sin(x)

    @function.defjvp
    def _(primals, tangents):
        raise NotImplementedError("inference only\nand more")

    def apply(p, x):
        return function(jax.lax.stop_gradient(x @ p["a"])) @ p["b"], x @ p["c"] @ p["d"]

    params = {**PARAMS, "c": normal(5, 6), "d": normal(6, 2)}
    checked = check_function(apply, params, X)
    assert checked.free == 1  # the 6
    [reason] = checked.traced.diagnostics
    assert reason.why.endswith("cannot be followed (NotImplementedError: inference only)")


def test_a_rule_that_calls_its_function_on_other_axes(check_function):
    @jax.custom_jvp
    def function(x, y):
        return x * y

    @function.defjvp
    def _(primals, tangents):
        [x, y], [dx, dy] = primals, tangents
        return function(x, y), dx * y + function(dy, x)

    def apply(p, x):
        return function(x @ p["a"], jnp.cos(x @ p["a"])) @ p["b"]

    assert check_function(apply, PARAMS, X).free == 1


def test_a_rule_without_end_keeps_its_axes_whole():
    @jax.custom_jvp
    def function(x):
        return x * 1.0

    @function.defjvp
    def _(primals, tangents):
        return jnp.sin(primals[0]), tangents[0] + function(jnp.ones((8, 8))).sum()

    def apply(p, x):
        return function(x @ p["a"]) @ p["b"]

    traced = trace(apply, {"a": normal(8, 8), "b": B}, [normal(8, 8)], None, PROPAGATE)
    assert any("again and again" in reason.why for reason in traced.diagnostics)
