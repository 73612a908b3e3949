"""Loops: what is the same in every step may be cut; the axis of the steps may not."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from wormjax._masks import apply_masks
from wormjax.structure._groups import find_groups
from wormjax.structure._plan import plan
from wormjax.structure._replay import Replay, ReplayError, Value, zeros_removed
from wormjax.structure._shrink import shrink
from wormjax.structure._trace import trace
from wormjax.structure.rules import EVALUATE, PROPAGATE


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


STACKED = {"i": normal(5, 8), "w": normal(6, 8, 8), "b": normal(6, 8), "o": normal(8, 3)}
A = {"a": normal(5, 8)}
X, ROW = normal(4, 5), normal(4, 1)


def reasons(traced, leaf, axis):
    names = traced.names
    return [str(r) for r in traced.dims.reasons(traced.params[names.index(leaf)][axis])]


@pytest.mark.parametrize("how", [{}, {"reverse": True}, {"unroll": 2}], ids=str)
def test_stacked_layers(check_function, how):
    def layer(h, w):
        h = jnp.tanh(h @ w["w"]) + h + w["b"][None]
        return h, jnp.sum(h, axis=-1)

    def apply(p, x):
        h, ys = lax.scan(layer, x @ p["i"], {"w": p["w"], "b": p["b"]}, **how)
        return h @ p["o"], ys

    checked = check_function(apply, STACKED, X)
    assert checked.free == 1  # the residual stream, in all layers at once
    [reason] = reasons(checked.traced, "w", 0)
    assert reason.startswith("it is the axis of a loop's steps [scan at test_loops.py:")


def test_inner_widths_of_stacked_layers(check_function):
    def layer(h, w):
        return h + jax.nn.relu(h @ w["up"]) @ w["down"], None

    def apply(p, x):
        return lax.scan(layer, x, p)[0]

    checked = check_function(apply, {"up": normal(3, 5, 9), "down": normal(3, 9, 5)}, X)
    assert checked.free == 1
    assert reasons(checked.traced, "up", 1)[0].startswith("it is an axis of the model's input")


def gru(p, h, x):
    r = jax.nn.sigmoid(x @ p["xr"] + h @ p["hr"])
    z = jax.nn.sigmoid(x @ p["xz"] + h @ p["hz"])
    n = jnp.tanh(x @ p["xn"] + r * (h @ p["hn"]))
    return (1.0 - z) * n + z * h


def test_gated_recurrent_unit(check_function):
    params = {k + g: normal(5 if k == "x" else 7, 7) * 0.5 for k in "xh" for g in "rzn"}
    params["o"] = normal(7, 2)

    def apply(p, xs):
        start = jnp.zeros((4, 7))
        h, ys = lax.scan(lambda h, x: (gru(p, h, x),) * 2, start, xs)
        return h @ p["o"], jnp.sum(ys, axis=-1)

    assert check_function(apply, params, normal(6, 4, 5)).free == 1


def test_long_short_term_memory(check_function):
    params = {"x": normal(5, 28) * 0.5, "h": normal(7, 28) * 0.5, "o": normal(7, 2)}

    def cell(p, carry, x):
        c, h = carry
        i, f, g, o = jnp.split(x @ p["x"] + h @ p["h"], 4, axis=-1)
        c = jax.nn.sigmoid(f + 1.0) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return c, jax.nn.sigmoid(o) * jnp.tanh(c)

    def apply(p, xs):
        start = (jnp.zeros((4, 7)), jnp.zeros((4, 7)))
        (c, h), _ = lax.scan(lambda carry, x: (cell(p, carry, x), None), start, xs)
        return h @ p["o"], jnp.sum(c, axis=-1)

    assert check_function(apply, params, normal(6, 4, 5)).free == 1


CARRIES = {  # what the carry's removed entries hold, step by step
    "zero": lambda h, row, t: jnp.sin(h),
    "one number": lambda h, row, t: jnp.cos(h * 0.0),
    "another number a step": lambda h, row, t: h + 0.5,
    "something of the step": lambda h, row, t: jnp.sin(h) + t,
    "something of each row": lambda h, row, t: jnp.sin(h + row),
    "a sum over all": lambda h, row, t: jnp.cos(h) + 0.1 * jnp.sum(h, axis=-1, keepdims=True),
}


@pytest.mark.parametrize("step", CARRIES.values(), ids=list(CARRIES))
def test_removed_entries_of_the_carry(check_function, step):
    def apply(p, x, row):
        def body(h, t):
            return step(h, row, t), (h, jnp.sum(h, axis=-1))

        h, (hs, sums) = lax.scan(body, x @ p["a"], jnp.arange(3.0))
        return jnp.sum(h, axis=-1), jnp.sum(hs, axis=-1), sums

    assert check_function(apply, A, X, ROW).free == 1


def test_removed_entries_that_differ_cannot_be_summed(check_function):
    scale = jnp.asarray(normal(8))

    def scaled(p, x):
        return lax.scan(lambda h, _: (h * 2.0 + scale[None], None), x @ p["a"], length=3)[0]

    def projected(p, x):
        return scaled(p, x) @ p["b"]

    params = {**A, "b": normal(8, 3)}
    assert check_function(projected, params, X).free == 1
    groups = find_groups(lambda p, x: jnp.sum(scaled(p, x), axis=-1), A, X)
    ticket = shrink(plan(groups, jax.tree.map(jnp.abs, A), keep=0.5), A)
    with pytest.raises(ReplayError, match="reduce_sum"):
        ticket.apply(ticket.params, X)


def nested(depth):
    """Scans inside scans; each begins at 0, and what removed entries hold changes in every one."""

    def apply(p, x):
        def level(k, h):
            if k == 0:
                return jnp.cos(h)
            return lax.scan(lambda c, _: (level(k - 1, c) + c, None), 0.0 * h, length=2)[0] + h

        return jnp.sum(level(depth, x @ p["a"]), axis=-1)

    return apply


def test_nested_scans(check_function):
    assert check_function(nested(3), A, X).free == 1


def test_nested_scans_are_replayed_in_linear_time():
    counts = []
    for depth in (2, 4, 6):
        traced = trace(nested(depth), A, [X], None, PROPAGATE)
        seen = collections.Counter()

        def counted(run, eqn, *operands, seen=seen):
            seen["cos"] += 1
            return EVALUATE["cos"](run, eqn, *operands)

        masks = {traced.dims.find(traced.params[0][1]): np.arange(8) < 5}
        run = Replay(traced.dims, masks, {**EVALUATE, "cos": counted}, traced.scope)

        def replay(a, run=run, traced=traced):
            return run.closed(traced.closed, [zeros_removed(a), Value(X)])[0].array

        jax.eval_shape(replay, A["a"][:, :5])
        counts.append(seen["cos"])
    assert counts == [3, 5, 7]


def test_a_carry_that_is_grouped_differently_stays_whole():
    def step(h, _):
        return h.reshape(4, 2, 3).transpose(0, 2, 1).reshape(4, 6), None

    def apply(p, x):
        return lax.scan(step, x @ p["a"], length=2)[0] @ p["b"]

    traced = trace(apply, {"a": normal(5, 6), "b": normal(6, 3)}, [X], None, PROPAGATE)
    found = reasons(traced, "a", 1)
    assert any("grouped in another way [scan at test_loops.py:" in reason for reason in found)


def test_a_while_loop_counts_removed_entries_in_its_condition(check_function):
    def apply(p, x, row):
        # each removed entry doubles a row's number, so it decides when the loop ends
        h = lax.stop_gradient(x @ p["a"] + row**2 + 1.0)
        total = lax.while_loop(lambda h: jnp.sum(h) < 2e3, lambda h: 2.0 * h, h)
        return jnp.sum(total, axis=-1), x @ p["a"] @ p["b"]

    assert check_function(apply, {**A, "b": normal(8, 3)}, X, ROW).free == 1


def test_lanes_of_a_while_loop_end_one_by_one(check_function):
    def lane(h):
        return lax.while_loop(lambda h: jnp.sum(h * h) < 50.0, lambda h: 1.5 * h + 0.1, h)

    def apply(p, x):
        h = jax.vmap(lane)(lax.stop_gradient(x @ p["a"]))
        return jnp.sum(h, axis=-1), x @ p["a"] @ p["b"]

    assert check_function(apply, {**A, "b": normal(8, 3)}, X).free == 1


@pytest.mark.parametrize("steps", [3, np.int32(3)], ids=["known", "given"])
def test_fori_loop(check_function, steps):
    def apply(p, x, steps):
        h = lax.stop_gradient(x @ p["a"])
        h = lax.fori_loop(0, steps, lambda i, h: jnp.sin(h) + i * 0.5, h)
        return jnp.sum(h, axis=-1), x @ p["a"] @ p["b"]

    params = {**A, "b": normal(8, 3)}
    if isinstance(steps, int):
        checked = check_function(lambda p, x: apply(p, x, steps), params, X)
    else:
        checked = check_function(apply, params, X, steps)
    assert checked.free == 1


def test_a_loop_over_nothing_that_is_cut_stays_as_it_is(check_function):
    def apply(p, x):
        y = lax.scan(lambda c, w: (c @ w, None), x @ p["a"] @ p["b"], p["w"])[0]
        return lax.while_loop(lambda c: jnp.sum(c) < -1e9, lambda c: c, lax.stop_gradient(y)), y

    params = {**A, "b": normal(8, 3), "w": normal(4, 3, 3)}
    assert check_function(apply, params, X).free == 1  # the 8; the loops see only the output's 3


def test_forward_derivatives_and_vmap():
    def apply(p, x):
        def body(c):
            return c[0] + 1, jnp.sin(c[1] @ p["h"]) + 0.1 * jnp.sum(c[1])

        return lax.while_loop(lambda c: c[0] < 3, body, (0, x @ p["a"]))[1] @ p["b"]

    params = {**A, "h": normal(8, 8), "b": normal(8, 3)}
    planned = plan(find_groups(apply, params, X[0]), jax.tree.map(jnp.abs, params), keep=0.5)
    masked, ticket = apply_masks(params, planned.masks), shrink(planned, params)
    assert ticket.params["h"].shape[0] == ticket.params["h"].shape[1] < 8
    want, got = (
        jax.vmap(jax.jacfwd(f, argnums=1), in_axes=(None, 0))(p, X)
        for f, p in ((apply, masked), (ticket.apply, ticket.params))
    )
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())
