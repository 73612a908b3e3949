"""Calls in line, and blocks that the backward pass computes again."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import primitives

from wormjax.structure._groups import find_groups
from wormjax.structure._plan import plan
from wormjax.structure._shrink import shrink
from wormjax.structure._trace import trace
from wormjax.structure.rules import PROPAGATE


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


PARAMS = {"a": normal(5, 8), "b": normal(8, 3)}
SCORES = jax.tree.map(np.abs, PARAMS)
X = normal(4, 5)


def network(p, x):
    return jnp.tanh(x @ p["a"]) @ p["b"]


@pytest.mark.parametrize(
    "wrap", [jax.jit, lambda f: jax.jit(jax.jit(f)), jax.checkpoint], ids=["jit", "nested", "remat"]
)
def test_a_call_passes_its_axes(check_function, wrap):
    checked = check_function(wrap(network), PARAMS, X)
    assert checked.free == 1  # the 8 hidden units
    assert checked.traced.diagnostics == []


def test_a_call_may_be_repeated_with_other_weights(check_function):
    layer = jax.jit(lambda w, x: jnp.tanh(x @ w))

    def apply(p, x):
        return layer(p["c"], layer(p["b"], layer(p["a"], x)))

    sizes = {"a": normal(5, 8), "b": normal(8, 8), "c": normal(8, 8)}
    assert check_function(apply, sizes, X).free == 2  # the 8 of c are the output's


def test_a_call_that_holds_the_jaxpr_itself(check_function):
    primitive = primitives.closed_call_p
    params = primitive.get_bind_params({"call_jaxpr": jax.make_jaxpr(jnp.tanh)(normal(4, 8))})

    def apply(p, x):
        return primitive.bind(x @ p["a"], **params)[0] @ p["b"]

    assert check_function(apply, PARAMS, X).free == 1


def test_an_array_that_an_inner_function_captured_is_cut(check_function):
    scale = jnp.asarray(normal(8))

    def apply(p, x):
        return jax.jit(lambda h: h * scale[None])(x @ p["a"]) @ p["b"]

    assert check_function(apply, PARAMS, X).free == 1


def test_removed_entries_are_known_beyond_a_call(check_function):
    def apply(p, x):
        return jax.jit(lambda h: jnp.cos(h) * 3.0)(x @ p["a"]).sum(axis=-1)  # each adds 3

    assert check_function(apply, {"a": PARAMS["a"]}, X).free == 1


@pytest.mark.parametrize("block", [lambda h, s: jnp.cos(h), lambda h, s: jnp.cos(h) * s])
def test_removed_entries_are_known_beyond_a_block(check_function, block):
    def apply(p, x, s):  # a number, and an array with a gradient of its own
        return jax.checkpoint(block)(x @ p["a"], s).sum(axis=-1)

    assert check_function(apply, {"a": PARAMS["a"]}, X, normal(4, 1)).free == 1


def test_what_has_no_rule_inside_a_call_is_named():
    def apply(p, x):
        return jax.jit(lambda h: jnp.linalg.cholesky(h @ h.T))(p["a"].T)

    square = {"a": normal(5, 5)}
    traced = trace(apply, square, [X], None, PROPAGATE)
    assert {reason.primitive for reason in traced.diagnostics} == {"cholesky"}
    assert traced.dims.reasons(traced.params[0][1])


def blocks(jaxpr):
    """The rematerialised blocks of a jaxpr, in order."""
    return [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "remat2"]


def test_a_block_stays_a_block_with_its_policy():
    policy = jax.checkpoint_policies.save_only_these_names("hidden")

    def apply(p, x):
        def block(p, x):
            hidden = checkpoint_name(jnp.tanh(x @ p["a"]), "hidden")
            return jnp.cos(hidden) @ p["b"]

        return jax.checkpoint(block, policy=policy, prevent_cse=False)(p, x)

    planned = plan(find_groups(apply, PARAMS, X), SCORES, keep=0.5)
    ticket = shrink(planned, PARAMS)
    assert ticket.params["a"].shape == (5, 4)
    [block] = blocks(jax.make_jaxpr(ticket.apply)(ticket.params, X).jaxpr)
    assert block.params["policy"] is policy
    assert block.params["prevent_cse"] is False

    def loss(apply):
        return lambda p: apply(p, X).sum()

    def computed_again(apply, params):
        [again] = blocks(jax.make_jaxpr(jax.grad(loss(apply)))(params).jaxpr)
        return collections.Counter(eqn.primitive.name for eqn in again.params["jaxpr"].eqns)

    large, small = computed_again(apply, PARAMS), computed_again(ticket.apply, ticket.params)
    assert large["cos"] == 1  # hidden is stored, cos(hidden) is not
    assert small == large
