"""Primitives without a rule keep every axis that they touch whole, and say which they are and where."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from wormjax.structure._trace import trace
from wormjax.structure.rules import PROPAGATE


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


PARAMS, X = {"a": normal(4, 8), "b": normal(8, 3)}, normal(8, 4)

BARRIERS = {
    "fft": lambda h: jnp.fft.fft(h, axis=0).real,
    "cholesky": lambda h: lax.linalg.cholesky(h.T @ h + 9.0 * jnp.eye(8)),
    "triangular_solve": lambda h: lax.linalg.triangular_solve(jnp.eye(8), h, left_side=True),
    "qr": lambda h: jnp.linalg.qr(h)[0],
    "eigh": lambda h: lax.linalg.eigh(h + h.T)[0],
    "lu": lambda h: lax.linalg.lu(h)[0],
    "svd": lambda h: lax.linalg.svd(h)[0],
    "householder_product": lambda h: lax.linalg.householder_product(h, h[0]),
    "tridiagonal_solve": lambda h: lax.linalg.tridiagonal_solve(h[0], h[0], h[0], h.T),
    "random_gamma": lambda h: jax.random.gamma(jax.random.key(0), jnp.exp(h)),
    "pure_callback": lambda h: jax.pure_callback(
        lambda h: h, jax.ShapeDtypeStruct(h.shape, h.dtype), h
    ),
}


@pytest.mark.parametrize("name", BARRIERS)
def test_a_primitive_without_a_rule_is_a_barrier(name):
    def apply(p, x):
        return BARRIERS[name](x @ p["a"]) @ p["b"]

    traced = trace(apply, PARAMS, (X,), None, PROPAGATE)
    reasons = traced.dims.reasons(traced.params[0][1])
    [reason] = [r for r in reasons if "no rule says what this primitive does" in r.why][:1]
    assert reason.primitive.startswith(name) or name in reason.primitive
    assert reason.source.startswith("test_barriers.py:")
    assert reason in traced.diagnostics


def test_the_message_names_the_line():
    def apply(p):
        return lax.linalg.cholesky(p["a"].T @ p["a"]) @ p["b"]

    traced = trace(apply, PARAMS, (), None, PROPAGATE)
    [reason] = traced.diagnostics
    line = apply.__code__.co_firstlineno + 1
    assert str(reason).endswith(f"[cholesky at test_barriers.py:{line}]")


def test_what_a_barrier_does_not_touch_is_free(check_function):
    def apply(p, x):
        hidden = jnp.tanh(x @ p["a"])
        return jnp.fft.fft(hidden @ p["b"], axis=1).real

    assert check_function(apply, PARAMS, X).free == 1


def test_every_family_speaks_of_its_own_primitives():
    from wormjax.structure.rules import _FAMILIES, EVALUATE

    names = [name for family in _FAMILIES for name in family.PROPAGATE]
    assert len(names) == len(set(names))
    assert set(names) == set(PROPAGATE) == set(EVALUATE)
