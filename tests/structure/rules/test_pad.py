"""Padding: the new pieces shrink with what they meet."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


X = normal(5, 4)


def test_a_padded_shortcut(check_function):
    def apply(p, x):
        hidden = x @ p["a"]
        shortcut = lax.pad(hidden, np.float32(0), ((0, 0, 0), (2, 3, 0)))
        return jnp.cos(shortcut + jnp.sin(hidden @ p["b"])) @ p["out"]

    params = {"a": normal(4, 6), "b": normal(6, 11), "out": normal(11, 3)}
    checked = check_function(apply, params, X)
    dims, (a, _, out) = checked.traced.dims, checked.traced.params
    assert checked.free == 3  # the padded ones before, the shortcut's own, those behind
    assert [atom.size for atom in dims.atoms(out[0])] == [2, 6, 3]
    assert dims.atoms(out[0])[1] is dims.find(a[1])


@pytest.mark.parametrize("number", [0.0, 1.0, 2.0])
def test_removed_entries_inside_and_outside(check_function, number):
    def apply(p, x):
        inside = jnp.cos(x @ p["a"])  # removed entries hold 1
        padded = lax.pad(inside, np.float32(number), ((0, 0, 0), (0, 6, 0)))
        tied = padded * (x @ p["b"])  # the new piece is pruned too
        return lax.reduce_sum(padded, (1,)) + lax.reduce_sum(tied, (1,))

    params = {"a": normal(4, 6), "b": normal(4, 12)}
    if number == 1.0:
        assert check_function(apply, params, X).free == 2
    else:
        with pytest.raises(ValueError, match=r"reduce_sum at test_pad\.py:\d+: "):
            check_function(apply, params, X)


def test_only_the_padding_is_pruned(check_function):
    def apply(p, x):
        value = lax.reduce_sum(x, (0, 1))  # not known while tracing
        padded = lax.pad(x, value, ((0, 0, 0), (8, 0, 0)))
        return lax.reduce_sum(jnp.cos(padded), (1,)) + lax.reduce_sum(padded * (x @ p), (1,))

    checked = check_function(apply, normal(4, 12), X)
    assert checked.free == 1
    assert [atom.size for atom in checked.traced.dims.atoms(checked.traced.params[0][1])] == [8, 4]


@pytest.mark.parametrize("number", [0.0, 2.0])
@pytest.mark.parametrize("interior", [0, 1])
def test_channels_pass_beside_padded_rows(check_function, number, interior):
    def apply(w, x):
        hidden = jnp.sin(x @ w)
        padded = lax.pad(hidden, np.float32(number), ((1, 2, interior), (0, 0, 0)))
        return lax.reduce_sum(jnp.cos(padded), (1,))

    assert check_function(apply, normal(4, 8), X).free == 1


def test_rows_and_channels_are_padded_at_once(check_function):
    def apply(w, x):
        hidden = x @ w
        centred = hidden - lax.reduce_sum(hidden, (1,)).reshape(5, 1) / 8.0
        padded = lax.pad(centred, np.float32(0.5), ((1, -2, 0), (1, 1, 0)))
        return lax.reduce_sum(jnp.cos(padded), (1,))

    assert check_function(apply, normal(4, 8), X).free == 1


@pytest.mark.parametrize(
    ("config", "why"),
    [((0, -2, 0), "it is cropped [pad"), ((0, 1, 1), "it is padded between its entries [pad")],
)
def test_cropped_and_dilated_channels_stay_whole(check_function, config, why):
    def apply(p, x):
        padded = lax.pad(x @ p["w"], np.float32(0), ((0, 0, 0), config))
        return jnp.cos(padded @ p["v"]) @ p["out"]

    width = {0: 6, 1: 16}[config[2]]
    params = {"out": normal(6, 2), "v": normal(width, 6), "w": normal(4, 8)}
    checked = check_function(apply, params, X)
    assert checked.free == 1
    for leaf, axis in ((1, 0), (2, 1)):
        [reason] = checked.traced.dims.reasons(checked.traced.params[leaf][axis])
        assert str(reason).startswith(why)
