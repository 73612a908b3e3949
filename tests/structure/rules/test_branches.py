"""Branches: what every branch says of a result is known of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from wormjax.structure._trace import trace
from wormjax.structure.rules import PROPAGATE


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


PARAMS = {"a": normal(5, 8), "b": normal(8, 3)}
X, ROW = normal(4, 5), normal(4, 1)

BRANCHES = {  # what removed entries hold in each: the same, another number, an array
    "same": [jnp.sin, jnp.tanh],
    "numbers": [jnp.sin, jnp.cos, lambda h: jnp.cos(h) + 1.0],
    "a sum": [jnp.cos, lambda h: h + jnp.sum(h, axis=-1, keepdims=True)],
    "one": [jnp.cos],
}


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("branches", BRANCHES.values(), ids=list(BRANCHES))
def test_branches_pass_their_axes(check_function, branches, which):
    def apply(p, x, which):
        h = lax.switch(which, branches, x @ p["a"])
        return h @ p["b"], jnp.sum(h, axis=-1)

    checked = check_function(apply, PARAMS, X, np.int32(which))
    assert checked.free == 1
    assert checked.traced.diagnostics == []


def test_a_branch_of_every_lane(check_function):
    def apply(p, x, row):
        def lane(h, r):
            return lax.cond(r[0] > 0, jnp.cos, lambda h: jax.nn.relu(h) + r[0], h)

        return jnp.sum(jax.vmap(lane)(x @ p["a"], row), axis=-1)

    assert check_function(apply, {"a": PARAMS["a"]}, X, ROW).free == 1


def test_branches_tie_what_they_return(check_function):
    def apply(p, x):
        h = lax.cond(jnp.sum(x) > 0, lambda: x @ p["a"], lambda: x @ p["c"])
        return h @ p["b"]

    checked = check_function(apply, {**PARAMS, "c": normal(5, 8)}, X)
    assert checked.free == 1  # the 8 of a, c and b


def test_branches_that_group_differently_stay_whole():
    def apply(p, x):
        h = (x @ p["a"]).reshape(4, 2, 3)
        h = lax.cond(
            jnp.sum(x) > 0,
            lambda: h.reshape(4, 6),
            lambda: h.transpose(0, 2, 1).reshape(4, 6),
        )
        return h @ p["b"]

    traced = trace(apply, {"a": normal(5, 6), "b": normal(6, 3)}, [X], None, PROPAGATE)
    found = [str(r) for r in traced.dims.reasons(traced.params[0][1])]
    assert any(
        r.startswith("its branches group this axis differently [cond at test_branches.py")
        for r in found
    )


def test_branches_in_a_loop(check_function):
    def apply(p, x):
        def body(h, t):
            return lax.cond(t > 1, lambda h: h + 1.0, jnp.cos, h), None

        return jnp.sum(lax.scan(body, x @ p["a"], jnp.arange(4))[0], axis=-1)

    assert check_function(apply, {"a": PARAMS["a"]}, X).free == 1
