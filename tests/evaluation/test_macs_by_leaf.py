import jax
import jax.numpy as jnp
import pytest
from jax import lax

from wormjax.evaluation import macs, macs_by_leaf


def _shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def _conv(x, kernel, **options):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers, **options)


def _check(fn, params, *args, rest=0, **leaves):
    found = macs_by_leaf(fn, params, *args)
    assert {name: n for name, n in found.leaves.items() if n} == leaves
    assert found.rest == rest
    assert sum(found.leaves.values()) + found.rest == macs(fn, params, *args)


def test_convolutions_count_output_positions():
    params = {"conv": _shape(3, 3, 4, 8), "depth": _shape(3, 3, 1, 8), "bias": _shape(8)}

    def net(p, x):
        y = jax.nn.relu(_conv(x, p["conv"]) + p["bias"].reshape(1, 1, 1, 8))
        return _conv(y, p["depth"], feature_group_count=8)

    _check(net, params, _shape(2, 5, 5, 4), conv=50 * 9 * 4 * 8, depth=50 * 9 * 8)


def test_what_is_made_of_a_weight_alone_counts_for_it():
    params = {"w": _shape(6, 4), "mask": jax.ShapeDtypeStruct((6, 4), jnp.bool_)}

    def net(p, x):
        keep = lax.stop_gradient(p["w"]) > 0
        w = jnp.where(keep, p["w"], jnp.zeros((), jnp.float32))
        return x @ (w / jnp.linalg.norm(w)).T.reshape(4, 6).T

    _check(net, params, _shape(3, 6), w=72)


def test_attention_and_products_of_weights_are_the_rest():
    params = {"q": _shape(8, 8), "a": _shape(8, 2), "b": _shape(2, 8)}

    def net(p, x):
        q = x @ p["q"]
        return (q @ x.T) @ (x @ (p["a"] @ p["b"]))

    _check(net, params, _shape(5, 8), q=320, rest=5 * 8 * 5 + 8 * 2 * 8 + 5 * 8 * 8 + 5 * 5 * 8)


def test_weights_are_followed_through_calls_scans_and_branches():
    params = {"stack": _shape(3, 8, 8), "shared": _shape(8, 8), "head": _shape(8, 2)}

    @jax.checkpoint
    def block(x, w):
        return jnp.tanh(x @ w)

    @jax.custom_vjp
    def head(x, w):
        return x @ w

    head.defvjp(lambda x, w: (x @ w, (x, w)), lambda saved, g: (g @ saved[1].T, saved[0].T @ g))

    def net(p, x):
        def body(c, w):
            return jax.jit(block)(c, w) @ p["shared"], None

        y, _ = lax.scan(body, x, p["stack"])
        y = lax.cond(y.sum() > 0, lambda y: y @ p["shared"], lambda y: y, y)
        return head(y, p["head"])

    _check(net, params, _shape(5, 8), stack=3 * 320, shared=4 * 320, head=80)


def test_a_loop_of_unknown_length_is_refused():
    def net(p, x):
        return lax.while_loop(lambda c: c.sum() < 1, lambda c: c @ p["w"], x)

    with pytest.raises(ValueError, match="a while loop"):
        macs_by_leaf(net, {"w": _shape(4, 4)}, _shape(2, 4))
