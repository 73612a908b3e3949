"""Tiling: the copies are one factor, the entries another."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from wormjax.structure._replay import ReplayError


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


W, X = normal(4, 6), normal(5, 4)


def test_entries_go_in_all_copies(check_function):
    def apply(p, x):
        return jnp.tile(x @ p["w"], (1, 3)) @ p["out"]

    checked = check_function(apply, {"w": W, "out": normal(18, 2)}, X)
    dims, (rows, _) = checked.traced.dims, checked.traced.params[0]
    assert checked.free == 2  # the copies, and the entries in each
    assert [atom.size for atom in dims.atoms(rows)] == [3, 6]


def test_removed_entries_of_a_copy(check_function):
    def apply(w, x):
        hidden = x @ w
        centred = hidden - lax.broadcast_in_dim(lax.reduce_sum(hidden, (1,)) / 6.0, (5, 6), (0,))
        tiled = jnp.tile(centred, (2, 3))
        return lax.reduce_sum(tiled * tiled, (1,))

    assert check_function(apply, W, X).free == 1


def test_removed_copies_hold_what_the_others_hold_and_differ(check_function):
    def apply(p, x):
        tiled = jnp.tile(x @ p["w"], (1, 3))  # removed channels hold 0
        return tiled @ p["out"] + lax.reduce_sum(tiled, (1,)).reshape(5, 1)

    with pytest.raises(ReplayError, match=r"reduce_sum at test_tile\.py:\d+: "):
        check_function(apply, {"out": normal(18, 2), "w": W}, X)


def test_repeat_is_the_other_way_round(check_function):
    def apply(p, x):
        return jnp.repeat(x @ p["w"], 3, axis=1) @ p["out"]

    checked = check_function(apply, {"w": W, "out": normal(18, 2)}, X)
    dims, (rows, _) = checked.traced.dims, checked.traced.params[0]
    assert checked.free == 2
    assert [atom.size for atom in dims.atoms(rows)] == [6, 3]
