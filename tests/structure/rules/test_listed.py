"""Reading an axis at a list of positions that the program's text tells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import wormjax as wj
from wormjax.structure._trace import trace
from wormjax.structure.rules import PROPAGATE


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


X = normal(5, 4)
ORDER = np.array([3, 1, 2, 0, 7, 6, 5, 4])
PAIRS = np.array([[1, 0], [5, 4], [2, 7]])

# what is done to a (5, 8) layer of which all 8 may go, and how many groups it then has
READ = {
    "a permutation": (lambda h: h[:, ORDER], 1),
    "negative positions": (lambda h: jnp.take(h, ORDER - 8, axis=1), 1),
    "another axis": (lambda h: jnp.take(h.T, ORDER, axis=0, mode="clip").T, 1),
    "counted": (lambda h: h[:, jnp.arange(8).reshape(2, 4).T.reshape(-1)], 1),
    "reversed": (lambda h: jnp.flip(h)[:, ::-1][:, ::-1], 1),
    "rolled": (lambda h: jnp.roll(h, 3, axis=1), 2),
    "selected": (lambda h: h[:, np.array([6, 0, 3, 1])], 2),
    "selected in order": (lambda h: h[:, np.arange(8) % 6 > 1], 2),
    "repeated": (lambda h: h[:, np.array([0, 1, 2, 3, 4, 5, 6, 7, 2, 1, 0, 0, 1, 2])], 2),
    "read twice": (lambda h: h[:, ORDER][:, np.array([7, 2, 1, 0, 4, 3])][:, 2:], 3),
    "several axes": (lambda h: lax.cos(h[:, PAIRS]).sum(-1), 3),
    "beside itself": (lambda h: jnp.concatenate([h, h[:, ORDER]], 1), 1),
    "plus itself": (lambda h: h + h[:, np.array([1, 0, 3, 2, 5, 6, 7, 4])], 1),
    "times its reversal": (lambda h: h * h[:, ::-1], 1),
    "twice alike": (lambda h: lax.sin(h[:, ORDER]) + lax.cos(h)[:, ORDER], 1),
    "a factor": (lambda h: h.reshape(5, 2, 4)[..., np.array([2, 3, 1, 0])].reshape(5, 8), 2),
    "in blocks": (jax.jit(jax.checkpoint(lambda h: lax.sin(h[:, ORDER]))), 1),
    "in a loop": (lambda h: lax.fori_loop(0, 2, lambda _, c: c[:, ::-1] + h[:, ::-1], h), 1),
}


@pytest.mark.parametrize("name", READ)
def test_channels_go_through_a_list(name, check_function):
    read, groups = READ[name]

    def apply(p, x):
        hidden = lax.cos(x @ p["a"])  # what is removed is 1
        after = read(hidden)
        centred = after - lax.reduce_sum(after, (1,))[:, None] / 6.0
        return lax.cos(centred) @ p["b"], lax.reduce_sum(hidden, (1,))

    width = jax.eval_shape(read, normal(5, 8)).shape[1]
    checked = check_function(apply, {"a": normal(4, 8), "b": normal(width, 3)}, X)
    assert checked.free == groups


def gathers(apply, *arguments):
    """How many gathers a function's program has."""
    return str(jax.make_jaxpr(apply)(*arguments)).count("gather[")


def shrunk(apply, params, x, keep):
    """A ticket of which the channels ``keep`` of ``a`` are left."""
    groups = wj.find_groups(apply, params, x)
    kept = jnp.asarray(np.isin(np.arange(8), keep)[None])
    masks = {"a": kept, "b": jnp.asarray(np.ones((1, 1), bool))}
    plan = wj.plan(groups, masks=groups.extend(masks))
    return wj.shrink(plan, params, verify=True), plan


def test_a_list_that_reads_all_that_is_kept_in_order_leaves_no_gather():
    def apply(params, x):
        return jnp.sin(x @ params["a"])[:, ORDER] @ params["b"]

    params = {"a": normal(4, 8), "b": normal(8, 3)}
    ticket, _ = shrunk(apply, params, X, [1, 2, 3, 7])  # read as 3, 1, 2, 7
    assert gathers(ticket.apply, ticket.params, X) == 1
    ticket, plan = shrunk(apply, params, X, [1, 2, 7])
    assert gathers(apply, params, X) == 1
    assert gathers(ticket.apply, ticket.params, X) == 0
    assert ticket.params["b"].shape == (3, 3)
    np.testing.assert_array_equal(ticket.params["b"], params["b"][[1, 2, 4]])
    assert "reads it at a list of positions" in plan.explain()


def test_what_a_list_leaves_out_is_not_read():
    def apply(params, x):
        return (x @ params["a"])[:, np.array([6, 0, 3, 1])] @ params["b"]

    groups = wj.find_groups(apply, {"a": normal(4, 8), "b": normal(4, 3)}, X)
    assert [(group.size, group.name) for group in groups] == [(4, "a:1")]
    assert "    a[:, at[c]]\n    b[c, :]" in groups.explain()
    [left_out] = [why for place, why in groups.whole if place.axis == 1 and place.path == "a"]
    assert left_out[0].why == "no result depends on it for these inputs"


def test_a_list_given_to_a_function_with_its_own_derivative_is_not_followed():
    # such a function is walked once for all its calls, and the lists of others may differ
    @jax.custom_jvp
    def read(h, order):
        return h[:, order]

    read.defjvp(lambda primals, tangents: (read(*primals), tangents[0][:, primals[1]]))

    def apply(params, x):
        hidden = x @ params["a"]
        return read(hidden, ORDER) @ params["b"] + read(hidden, ORDER[::-1]) @ params["b"]

    traced = trace(apply, {"a": normal(4, 8), "b": normal(8, 3)}, (X,), None, PROPAGATE)
    assert "it is looked up by index" in [r.why for r in traced.dims.reasons(traced.params[0][1])]
