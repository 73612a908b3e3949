"""Repetition and squeezing: which axes pass, which are free, and what the removed entries of a repeated axis hold."""

import jax.numpy as jnp
import numpy as np
from jax import lax


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


W, BIAS, X = normal(4, 8), normal(8), normal(5, 4)


def test_a_bias_takes_the_channels(check_function):
    def apply(p, x):
        return lax.reduce_sum(
            jnp.cos(x @ p["w"] + lax.broadcast_in_dim(p["b"], (5, 8), (1,))), (1,)
        )

    checked = check_function(apply, {"w": W, "b": BIAS}, X)
    assert checked.free == 1
    assert checked.traced.dims.same(checked.traced.params[0][0], checked.traced.params[1][1])


def test_zeros_and_ones_shrink_with_what_they_meet(check_function):
    def apply(w, x):
        hidden = jnp.zeros((1, 8)) + jnp.ones((5, 8)) * (x @ w)
        return lax.reduce_sum(jnp.cos(hidden), (1,))

    assert check_function(apply, W, X).free == 1


def test_a_number_counts_in_every_removed_entry(check_function):
    def apply(w, x):
        twos = jnp.full((5, 8), 2.0)
        return lax.reduce_sum(twos, (1,)) + lax.reduce_sum(twos * (x @ w), (1,))  # the first is 16

    assert check_function(apply, W, X).free == 1


def test_a_repeated_column_is_the_same_in_removed_entries(check_function):
    def apply(w, x):
        column = lax.slice(x, (0, 0), (5, 1))
        wide = lax.broadcast_in_dim(column, (5, 8), (0, 1))
        wider = lax.broadcast_in_dim(lax.squeeze(column, (1,)), (5, 8), (0,))
        return lax.reduce_sum(jnp.sin(wide) + wider * wider, (1,)) + lax.reduce_sum(
            wide * (x @ w), (1,)
        )

    assert check_function(apply, W, X).free == 1


def test_what_passes_brings_its_removed_entries(check_function):
    def apply(w, x):
        hidden = x @ w
        centred = hidden - lax.broadcast_in_dim(lax.reduce_sum(hidden, (1,)) / 8.0, (5, 8), (0,))
        stacked = lax.broadcast_in_dim(centred, (3, 5, 8), (1, 2))
        return lax.reduce_sum(stacked * stacked, (0, 2))

    assert check_function(apply, W, X).free == 1


def test_an_inserted_axis_comes_and_goes(check_function):
    def apply(w, x):
        hidden = x @ w
        centred = hidden - lax.broadcast_in_dim(lax.reduce_sum(hidden, (1,)) / 8.0, (5, 8), (0,))
        there = lax.expand_dims(centred, (1, 3))
        return lax.reduce_sum(jnp.cos(lax.squeeze(there, (1, 3))), (1,))

    assert check_function(apply, W, X).free == 1


def test_a_column_of_a_parameter_is_repeated_over_free_channels(check_function):
    def apply(p, x):
        gains = lax.broadcast_in_dim(p["gain"], (4, 8), (0, 1))  # (4, 1)
        return (x @ (gains * p["w"])) @ p["out"]

    params = {"w": W, "gain": normal(4, 1), "out": normal(8, 3)}
    checked = check_function(apply, params, X)
    assert checked.free == 1
    assert checked.traced.dims.reasons(checked.traced.params[0][0])  # the input's features
