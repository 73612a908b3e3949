"""The walk over a jaxpr knows how often each inner jaxpr runs."""

import jax
import jax.numpy as jnp
import pytest

from wormjax.evaluation._walk import total


def sines(fn, *args, **settings):
    def count(eqn):
        return 1 if eqn.primitive.name == "sin" else None

    return total(jax.make_jaxpr(fn)(*args), count, **settings)


@jax.custom_jvp
def with_jvp(x):
    return jnp.sin(x)


with_jvp.defjvp(lambda primals, tangents: (with_jvp(*primals), tangents[0] * jnp.cos(primals[0])))


@jax.custom_vjp
def with_vjp(x):
    return jnp.sin(jnp.sin(x))


with_vjp.defvjp(lambda x: (with_vjp(x), x), lambda x, ct: (ct * jnp.sin(x),))


def scanned(x, length=5):
    return jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, length=length)[0]


def looped(x):
    return jax.lax.while_loop(lambda c: jnp.sin(c) < 0.5, lambda c: jnp.sin(jnp.sin(c)), x)


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (jnp.cos, 0),
        (jnp.sin, 1),
        (jax.jit(lambda x: jnp.sin(x) + jnp.sin(2 * x)), 2),
        (jax.checkpoint(jnp.sin), 1),
        (with_jvp, 1),
        (with_vjp, 2),
        (scanned, 5),
        (lambda x: jax.lax.fori_loop(0, 7, lambda i, c: jnp.sin(c), x), 7),
        (jax.jit(lambda x: jax.lax.scan(lambda c, _: (scanned(c), None), x, length=3)[0]), 15),
        (lambda x: jax.lax.cond(x > 0, scanned, jnp.sin, x), 5),
        (lambda x: jax.lax.switch(jnp.int32(x), [jnp.cos, jnp.sin, with_vjp], x), 2),
        (lambda x: jax.lax.map(jnp.sin, jnp.stack([x] * 4)), 4),
    ],
)
def test_counts_every_execution(fn, expected):
    assert sines(fn, 1.0) == expected


def test_a_gradient_counts_its_own_equations():
    # forward sin(sin(x)) by the rule's own function, backward one sin more
    assert sines(jax.grad(with_vjp), 1.0) == 3


def test_a_while_needs_its_number_of_trips():
    with pytest.raises(ValueError, match="give while_trips"):
        sines(looped, 1.0)
    assert sines(looped, 1.0, while_trips=10) == 10 * 2 + 11

    def nothing_inside(x):
        return jax.lax.while_loop(lambda c: c < 9, lambda c: c + 1, x)

    assert sines(nothing_inside, 1.0) == 0


def test_a_shard_map_runs_on_every_device():
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    spec = jax.P("a", "b")
    fn = jax.shard_map(jnp.sin, mesh=mesh, in_specs=spec, out_specs=spec)
    assert sines(fn, jnp.ones((2, 4))) == 8


def test_an_inner_function_of_unknown_use_is_an_error_with_its_place():
    def solve(b):
        return jax.lax.custom_linear_solve(jnp.sin, b, lambda matvec, y: y, symmetric=True)

    with pytest.raises(ValueError, match=r"'custom_linear_solve' at .*test_walk\.py"):
        sines(solve, jnp.ones(3))

    def harmless(x):
        return jax.lax.reduce(x, 0.0, jax.lax.add, (0,))

    assert sines(harmless, jnp.ones(3)) == 0


def test_a_count_may_take_a_call_as_a_whole():
    def count(eqn):
        return 100 if eqn.primitive.name == "jit" else None

    jaxpr = jax.make_jaxpr(lambda x: scanned(jax.jit(jnp.sin)(x)))(1.0)
    assert total(jaxpr, count) == 100


def test_counts_are_exact_beyond_any_machine_integer():
    jaxpr = jax.make_jaxpr(
        lambda x: jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, length=2**20)[0]
    )(1.0)
    assert total(jaxpr, lambda eqn: 2**60 + 1 if eqn.primitive.name == "sin" else None) == 2**20 * (
        2**60 + 1
    )
