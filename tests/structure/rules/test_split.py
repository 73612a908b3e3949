"""Arrays taken apart."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from wormjax.structure._trace import trace
from wormjax.structure.rules import PROPAGATE


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


X = normal(5, 4)


def centred(hidden):
    """Removed channels hold minus the mean of the row."""
    return hidden - lax.reduce_sum(hidden, (1,)).reshape(5, 1) / hidden.shape[1]


def test_gates_are_tied_with_what_they_gate(check_function):
    def apply(p, x):
        a, b = jnp.split(x @ p["w"], 2, axis=-1)
        return (a * jnp.tanh(b)) @ p["out"]

    checked = check_function(apply, {"out": normal(6, 3), "w": normal(4, 12)}, X)
    dims, (out, w) = checked.traced.dims, checked.traced.params
    assert checked.free == 1
    assert dims.atoms(w[1]) == [dims.find(out[0])] * 2


def test_unequal_pieces_and_their_removed_entries(check_function):
    def apply(w, x):
        a, b, c = jnp.split(centred(x @ w), [3, 7], axis=1)
        return sum(
            lax.reduce_sum(jnp.cos(k * piece), (1,)) for k, piece in ((1.0, a), (2.0, b), (3.0, c))
        )

    checked = check_function(apply, normal(4, 12), X)
    assert checked.free == 3
    assert [d.size for d in checked.traced.dims.atoms(checked.traced.params[0][1])] == [3, 4, 5]


def test_other_axes_pass(check_function):
    def apply(w, x):
        top, bottom = lax.split(centred(x @ w), (2, 3), axis=0)
        return lax.reduce_sum(jnp.cos(bottom), (1,)), lax.reduce_sum(jnp.cos(top), (1,))

    assert check_function(apply, normal(4, 8), X).free == 1


def test_a_cut_across_factors_keeps_them_whole(check_function):
    def apply(p, x):
        hidden = (x @ p["w"]).reshape(5, 3, 4).swapaxes(1, 2).reshape(5, 12)  # (4, 3)
        a, b = lax.split(hidden, (5, 7), axis=1)
        return jnp.cos(a @ p["a"] + b @ p["b"]) @ p["out"]

    params = {"a": normal(5, 6), "b": normal(7, 6), "out": normal(6, 2), "w": normal(4, 12)}
    checked = check_function(apply, params, X)
    assert checked.free == 1
    for leaf, axis in ((0, 0), (1, 0), (3, 1)):
        [why, *_] = checked.traced.dims.reasons(checked.traced.params[leaf][axis])
        assert str(why).startswith("it is cut across the boundaries of its factors [split at test_")


@pytest.mark.parametrize("axis", [0, 1])
def test_unstacked_axes_stay_whole_and_channels_pass(check_function, axis):
    def apply(w, x):
        hidden = centred(x @ w)
        cube = jnp.stack([hidden, 2.0 * hidden], axis)
        return sum(lax.reduce_sum(jnp.cos(row), (1,)) for row in jnp.unstack(cube, axis=axis))

    assert check_function(apply, normal(4, 8), X).free == 1


def test_unstacked_channels_stay_whole():
    def apply(w, x):
        return sum(jnp.unstack(x @ w, axis=1))

    traced = trace(apply, normal(4, 8), (X,), None, PROPAGATE)
    [why] = traced.dims.reasons(traced.params[0][1])
    assert str(why).startswith("each of its entries becomes an array of its own [unstack at test_")
