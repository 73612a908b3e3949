"""Axes in another order, and axes read backwards."""

import jax.numpy as jnp
import numpy as np
from jax import lax


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


X = normal(5, 4)


def test_axes_and_their_removed_entries_move(check_function):
    def apply(p, x):
        hidden = jnp.einsum("nk,kab->nab", x, p["w"])
        centred = hidden - lax.reduce_sum(hidden, (1,)).reshape(5, 1, 6) / 3.0
        moved = lax.transpose(centred, (2, 0, 1))
        return (
            jnp.einsum("bna,bo->no", jnp.cos(moved), p["b"])
            + lax.reduce_sum(moved * moved, (0, 2))[:, None]
        )

    checked = check_function(apply, {"b": normal(6, 1), "w": normal(4, 3, 6)}, X)
    assert checked.free == 2
    assert checked.traced.dims.same(checked.traced.params[0][0], checked.traced.params[1][2])


def test_a_tied_weight_is_used_both_ways(check_function):
    def apply(w, x):
        return jnp.cos(x @ w) @ lax.transpose(w, (1, 0))

    checked = check_function(apply, normal(4, 8), X)
    assert checked.free == 1
    assert checked.traced.dims.reasons(checked.traced.params[0][0])


def test_channels_that_are_read_backwards_go_on_both_sides(check_function):
    def apply(p, x):
        return jnp.cos(lax.rev(jnp.cos(x @ p["w"]), (1,)) @ p["v"]) @ p["u"]

    checked = check_function(apply, {"u": normal(6, 2), "v": normal(8, 6), "w": normal(4, 8)}, X)
    assert checked.free == 2
    before, after = checked.traced.params[2][1], checked.traced.params[1][0]
    [atom] = checked.traced.dims.atoms(before)
    mask = {atom: np.arange(8) < 3}
    kept = [checked.traced.dims.kept(dim, mask) for dim in (before, after)]
    np.testing.assert_array_equal(kept[0], kept[1][::-1])


def test_an_axis_that_is_whole_anyway_is_read_backwards(check_function):
    def apply(p, x):
        return jnp.cos(lax.rev(x, (1,)) @ p["w"]) @ p["v"]

    assert check_function(apply, {"v": normal(8, 6), "w": normal(4, 8)}, X).free == 1


def test_beside_a_reversed_axis_channels_pass(check_function):
    def apply(w, x):
        hidden = lax.rev(x @ w, (0,))
        centred = hidden - lax.reduce_sum(hidden, (1,)).reshape(5, 1) / 8.0
        return lax.reduce_sum(jnp.cos(lax.rev(centred, (0,))), (1,))

    assert check_function(apply, normal(4, 8), X).free == 1
