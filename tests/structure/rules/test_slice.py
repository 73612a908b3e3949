"""Ranges of axes: pieces where the stride is 1, factors where it divides."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


X = normal(5, 4)


def centred(hidden):
    """Removed channels hold minus the mean of the row."""
    return hidden - lax.reduce_sum(hidden, (1,)).reshape(5, 1) / hidden.shape[1]


def atoms(checked, leaf, axis):
    return checked.traced.dims.atoms(checked.traced.params[leaf][axis])


def test_halves_are_tied_by_what_joins_them(check_function):
    def apply(p, x):
        hidden = x @ p["w"]
        return (hidden[:, :6] * jnp.tanh(hidden[:, 6:])) @ p["out"]

    checked = check_function(apply, {"out": normal(6, 3), "w": normal(4, 12)}, X)
    assert checked.free == 1
    assert atoms(checked, 1, 1) == atoms(checked, 0, 0) * 2


def test_rotated_halves(check_function):
    def apply(p, x):
        hidden = x @ p["w"]
        turned = lax.concatenate([-hidden[:, 4:], hidden[:, :4]], 1)
        angle = lax.broadcast_in_dim(jnp.arange(4, dtype=jnp.float32), (5, 2, 4), (2,)).reshape(
            5, 8
        )
        return (hidden * jnp.cos(angle) + turned * jnp.sin(angle)) @ p["out"]

    checked = check_function(apply, {"out": normal(8, 3), "w": normal(4, 8)}, X)
    assert checked.free == 1
    assert [a.size for a in atoms(checked, 1, 1)] == [4, 4]


def test_interleaved_pairs(check_function):
    def apply(p, x):
        hidden = x @ p["w"]
        even, odd = hidden[:, ::2], hidden[:, 1::2]
        angle = lax.broadcast_in_dim(jnp.arange(4, dtype=jnp.float32), (5, 4), (1,))
        turned = [
            even * jnp.cos(angle) - odd * jnp.sin(angle),
            even * jnp.sin(angle) + odd * jnp.cos(angle),
        ]
        return jnp.stack(turned, -1).reshape(5, 8) @ p["out"]

    checked = check_function(apply, {"out": normal(8, 3), "w": normal(4, 8)}, X)
    assert checked.free == 1
    assert [a.size for a in atoms(checked, 1, 1)] == [4, 2]
    assert checked.traced.dims.reasons(atoms(checked, 1, 1)[1])


def test_ranges_that_overlap(check_function):
    def apply(p, x):
        hidden = centred(x @ p["w"])
        return (
            lax.reduce_sum(jnp.cos(hidden[:, 2:9]), (1,)).reshape(5, 1) + hidden[:, 5:] @ p["out"]
        )

    checked = check_function(apply, {"out": normal(7, 1), "w": normal(4, 12)}, X)
    assert [a.size for a in atoms(checked, 1, 1)] == [2, 3, 4, 3]
    assert checked.free == 4


@pytest.mark.parametrize("rows", [slice(1, 4), slice(0, 5, 2), slice(1, 4, 2)])
def test_channels_pass_beside_a_range(check_function, rows):
    def apply(w, x):
        return lax.reduce_sum(jnp.cos(centred(x @ w)[rows]), (1,))

    assert check_function(apply, normal(4, 8), X).free == 1


def test_removed_entries_of_strided_channels(check_function):
    def apply(w, x):
        return lax.reduce_sum(jnp.cos(centred(x @ w)[1:, 2::3]), (1,))

    checked = check_function(apply, normal(4, 12), X)
    assert checked.free == 1
    assert [a.size for a in atoms(checked, 0, 1)] == [4, 3]


@pytest.mark.parametrize(
    ("span", "why"),
    [
        ((0, 11, 2), "its stride does not divide the axis [slice"),
        ((4, 12, 2), "its stride does not divide the axis [slice"),
    ],
)
def test_other_strides_keep_the_axis_whole(check_function, span, why):
    def apply(p, x):
        hidden = lax.slice_in_dim(x @ p["w"], *span, axis=1)
        return jnp.cos(hidden @ p["v"]) @ p["out"]

    taken = len(range(*span))
    width = 11 if span[1] == 11 else 12
    params = {"out": normal(6, 2), "v": normal(taken, 6), "w": normal(4, width)}
    checked = check_function(apply, params, X)
    assert checked.free == 1
    assert str(checked.traced.dims.reasons(checked.traced.params[2][1])[0]).startswith(why)
    assert checked.traced.dims.reasons(checked.traced.params[1][0])


def test_a_stride_across_factors_keeps_them_whole(check_function):
    def apply(p, x):
        hidden = (x @ p["w"]).reshape(5, 4, 3).swapaxes(1, 2).reshape(5, 12)  # (3, 4)
        return jnp.cos(hidden[:, ::3] @ p["v"]) @ p["out"]

    params = {"out": normal(6, 2), "v": normal(4, 6), "w": normal(4, 12)}
    checked = check_function(apply, params, X)
    assert checked.free == 1
    whys = map(str, checked.traced.dims.reasons(checked.traced.params[2][1]))
    assert any(
        w.startswith("its stride crosses the boundaries of its factors [slice") for w in whys
    )


def test_a_range_of_merged_axes_is_a_range_of_the_slowest(check_function):
    def apply(p, x):
        hidden = jnp.einsum("nk,khd->nhd", x, p["w"]).reshape(5, 12)
        return hidden[:, :8] @ p["out"] + lax.reduce_sum(jnp.cos(hidden[:, 8:]), (1,)).reshape(5, 1)

    checked = check_function(apply, {"out": normal(8, 3), "w": normal(4, 3, 4)}, X)
    assert checked.free == 2  # two of the three heads, and the width; a head alone is never a unit
    assert [a.size for a in atoms(checked, 0, 0)] == [2, 4]
