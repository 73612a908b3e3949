"""Merging and splitting axes: the factors that are found, and the removed entries on the new axes."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from wormjax.structure._replay import ReplayError


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


X = normal(5, 4)


def atoms(checked, leaf, axis):
    dims = checked.traced.dims
    return [atom.size for atom in dims.atoms(checked.traced.params[leaf][axis])]


def why_whole(checked, leaf, axis):
    return [str(r) for r in checked.traced.dims.reasons(checked.traced.params[leaf][axis])]


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_flattening_before_a_dense_layer(check_function, layout):
    numbers = (layout, "HWIO", layout)

    def apply(p, x):
        hidden = lax.conv_general_dilated(x, p["kernel"], (1, 1), "SAME", dimension_numbers=numbers)
        return lax.reshape(hidden, (2, 36)) @ p["rows"]

    x = normal(2, 3, 3, 2) if layout == "NHWC" else normal(2, 2, 3, 3)
    checked = check_function(apply, {"kernel": normal(3, 3, 2, 4), "rows": normal(36, 3)}, x)
    assert checked.free == 1
    assert sorted(atoms(checked, 1, 0)) == [3, 3, 4]
    assert atoms(checked, 1, 0).index(4) == (2 if layout == "NHWC" else 0)


def test_heads_and_their_width_are_two_groups(check_function):
    def apply(p, x):
        query, value = ((x @ p[k]).reshape(5, 2, 4) for k in ("query", "value"))
        mixed = jnp.einsum("nhd,mhd->hnm", query, query)
        return jnp.einsum("hnm,mhd->nhd", mixed, value).reshape(5, 8) @ p["out"]

    params = {"out": normal(8, 3), "query": normal(4, 8), "value": normal(4, 8)}
    checked = check_function(apply, params, X)
    assert checked.free == 3  # heads (all four arrays), width of queries, width of values
    assert atoms(checked, 0, 0) == atoms(checked, 1, 1) == atoms(checked, 2, 1) == [2, 4]
    dims, (out, query, value) = checked.traced.dims, checked.traced.params
    assert dims.same(out[0], value[1])
    assert dims.atoms(query[1])[0] is dims.atoms(value[1])[0]
    assert dims.atoms(query[1])[1] is not dims.atoms(value[1])[1]


def test_a_channel_shuffle_turns_the_factors_round(check_function):
    def apply(p, x):
        shuffled = (x @ p["w"]).reshape(5, 3, 4).swapaxes(1, 2).reshape(5, 12)
        return shuffled @ p["out"]

    checked = check_function(apply, {"out": normal(12, 3), "w": normal(4, 12)}, X)
    assert checked.free == 2
    assert (atoms(checked, 0, 0), atoms(checked, 1, 1)) == ([4, 3], [3, 4])


def test_group_statistics_with_removed_entries(check_function):
    def apply(p, x):
        grouped = (x @ p["w"]).reshape(5, 3, 4)
        mean = lax.reduce_sum(grouped, (2,)).reshape(5, 3, 1) / 4.0
        centred = grouped - mean
        variance = lax.reduce_sum(centred * centred, (2,)).reshape(5, 3, 1) / 4.0
        normal = (centred * lax.rsqrt(variance + 0.1)).reshape(5, 12)
        return (normal * p["scale"].reshape(1, 12)) @ p["out"]

    params = {"out": normal(12, 3), "scale": normal(12), "w": normal(4, 12)}
    checked = check_function(apply, params, X)
    assert checked.free == 2  # groups, and channels in every group
    assert atoms(checked, 1, 0) == [3, 4]


def test_what_stands_for_a_split_axis_does_so_beside_every_factor(check_function):
    def apply(w, x):
        hidden = x @ w
        centred = hidden - lax.reduce_sum(hidden, (1,)).reshape(5, 1) / 12.0
        split = centred.reshape(5, 3, 4)
        return lax.reduce_sum(jnp.cos(split), (1,)) @ w.reshape(4, 3, 4)[0].T + lax.reduce_sum(
            jnp.sin(split), (2,)
        )

    assert check_function(apply, normal(4, 12), X).free == 1


def test_one_number_crosses_a_merge(check_function):
    def apply(p, x):
        merged = jnp.cos(jnp.einsum("nk,khd->nhd", x, p)).reshape(5, 12)
        return lax.reduce_sum(merged * merged, (1,))

    assert check_function(apply, normal(4, 3, 4), X).free == 2


@pytest.mark.parametrize("rows", ["free", "whole"])
def test_removed_entries_that_differ_do_not_cross_a_merge(check_function, rows):
    def apply(p, x):
        hidden = jnp.einsum("nk,khd->nhd" if rows == "free" else "nhk,kd->nhd", x, p)
        centred = hidden - lax.reduce_sum(hidden, (2,)).reshape(5, 3, 1) / 4.0
        return lax.reduce_sum(jnp.cos(centred.reshape(5, 12)), (1,))

    params, x = (normal(4, 3, 4), X) if rows == "free" else (normal(2, 4), normal(5, 3, 2))
    with pytest.raises(ReplayError, match=r"reduce_sum at test_reshape\.py:\d+: "):
        check_function(apply, params, x)


@pytest.mark.parametrize(
    ("old", "new", "sizes"),
    [((4, 6), (8, 3), [4, 2, 3]), ((2, 12), (4, 6), [2, 2, 6]), ((6, 4), (2, 12), [2, 3, 4])],
)
def test_factors_that_fit_together(check_function, old, new, sizes):
    def apply(p, x):
        hidden = jnp.cos((x @ p["w"]).reshape(5, *old)).reshape(5, *new)
        return jnp.einsum("nab,abo->no", hidden, p["out"])

    checked = check_function(apply, {"out": normal(*new, 3), "w": normal(4, 24)}, X)
    assert checked.free == 3
    assert atoms(checked, 1, 1) == sizes
    assert atoms(checked, 0, 0) + atoms(checked, 0, 1) == sizes


@pytest.mark.parametrize(("old", "new"), [((4, 6), (3, 8)), ((6, 4), (4, 6))])
def test_factors_that_do_not_fit_stay_whole(check_function, old, new):
    def apply(p, x):
        hidden = (x @ p["w"]).reshape(5, *old).reshape(5, *new)
        return jnp.einsum("nab,abo->no", hidden, p["out"]) @ p["last"]

    params = {"last": normal(3, 2), "out": normal(*new, 3), "w": normal(4, 24)}
    checked = check_function(apply, params, X)
    assert checked.free == 1  # the last layer's
    for leaf, axis in ((1, 0), (1, 1), (2, 1)):
        [why] = why_whole(checked, leaf, axis)
        assert why.startswith(
            "it is reshaped across the boundaries of its factors [reshape at test_"
        )


def test_pieces_that_a_reshape_stacks_are_one_axis(check_function):
    def apply(p, x):
        joined = lax.concatenate([x @ p["a"], jnp.cos(x @ p["b"])], 1)
        return jnp.einsum("nkc,kco->no", joined.reshape(5, 2, 6), p["out"])

    params = {"a": normal(4, 6), "b": normal(4, 6) + 1, "out": normal(2, 6, 3)}
    checked = check_function(apply, params, X)
    assert checked.free == 1
    dims, (a, b, out) = checked.traced.dims, checked.traced.params
    assert dims.same(a[1], b[1])
    assert dims.same(a[1], out[1])


def test_axes_read_in_another_order(check_function):
    def apply(p, x):
        hidden = jnp.einsum("nk,khd->nhd", x, p["w"])
        return lax.reshape(hidden, (5, 12), (0, 2, 1)) @ p["out"]

    checked = check_function(apply, {"out": normal(12, 3), "w": normal(4, 3, 4)}, X)
    assert checked.free == 2
    assert atoms(checked, 0, 0) == [4, 3]


def test_axes_of_one_entry_come_and_go(check_function):
    def apply(w, x):
        hidden = (x @ w).reshape(5, 1, 8)
        centred = hidden - (lax.reduce_sum(hidden, (2,)) / 8.0).reshape(5, 1, 1)
        return lax.reduce_sum(jnp.cos(centred.reshape(1, 5, 8, 1).reshape(5, 8)), (1,))

    assert check_function(apply, normal(4, 8), X).free == 1


def test_patches_of_an_image(check_function):
    def apply(p, x):
        patches = x.reshape(2, 2, 3, 2, 3, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 4, 27)
        return jnp.cos(patches @ p["embed"]) @ p["out"]

    checked = check_function(
        apply, {"embed": normal(27, 8), "out": normal(8, 2)}, normal(2, 6, 6, 3)
    )
    assert checked.free == 1
    assert checked.traced.dims.reasons(checked.traced.params[0][0])


def test_an_empty_array_keeps_its_axes_whole(check_function):
    def apply(p, x):
        nothing = lax.slice(x, (0, 0), (0, 4)) @ p["w"]
        return x @ p["v"] @ p["u"] + lax.reduce_sum(nothing.reshape(4, 0), (0, 1))

    params = {"u": normal(8, 2), "v": normal(4, 8), "w": normal(4, 6)}
    checked = check_function(apply, params, X)
    assert checked.free == 1
    assert "it is an axis of an empty array [reshape" in why_whole(checked, 2, 1)[0]
