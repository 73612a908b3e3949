"""Arrays joined end to end, or along a new axis."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from wormjax.structure._replay import ReplayError


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


X = normal(5, 4)
PAIR = {"a": normal(4, 6), "b": normal(4, 8)}


def test_joined_channels_go_independently(check_function):
    def apply(p, x):
        first = jnp.cos(x @ p["a"])
        second = jnp.cos(lax.concatenate([x, first], 1) @ p["b"])
        return lax.concatenate([x, first, second], 1) @ p["out"]

    params = {"a": normal(4, 6), "b": normal(10, 8), "out": normal(18, 3)}
    checked = check_function(apply, params, X)
    dims, (a, b, out) = checked.traced.dims, checked.traced.params
    assert checked.free == 2
    assert [atom.size for atom in dims.atoms(out[0])] == [4, 6, 8]
    assert dims.atoms(out[0])[1:] == [dims.find(a[1]), dims.find(b[1])]


def test_removed_entries_that_agree_are_summed(check_function):
    def apply(p, x):
        return lax.reduce_sum(jnp.cos(lax.concatenate([x @ p["a"], x @ p["b"]], 1)), (1,))

    assert check_function(apply, PAIR, X).free == 2


def test_removed_entries_that_differ_are_not(check_function):
    def apply(p, x):
        return lax.reduce_sum(lax.concatenate([x @ p["a"], jnp.cos(x @ p["b"])], 1), (1,))

    with pytest.raises(ReplayError, match=r"reduce_sum at test_concat\.py:\d+: "):
        check_function(apply, PAIR, X)


def test_a_single_pruned_piece_speaks_for_the_axis(check_function):
    def apply(w, x):
        hidden = x @ w
        centred = hidden - lax.reduce_sum(hidden, (1,)).reshape(5, 1) / 8.0
        return lax.reduce_sum(jnp.cos(lax.concatenate([x, centred], 1)), (1,))

    assert check_function(apply, normal(4, 8), X).free == 1


def test_other_axes_are_tied_and_keep_their_removed_entries(check_function):
    def apply(p, x):
        a, b = x @ p["a"], jnp.cos(x @ p["b"])
        joined = lax.concatenate(
            [a, b, a], 0
        )  # tokens: 0 in removed channels of a, 1 in those of b
        return lax.reduce_sum(jnp.sin(joined) + 2.0, (1,))

    checked = check_function(apply, {"a": normal(4, 8), "b": normal(4, 8)}, X)
    assert checked.free == 1
    assert checked.traced.dims.same(checked.traced.params[0][1], checked.traced.params[1][1])


def test_a_token_of_its_own_keeps_the_channels_free(check_function):
    def apply(p, x):
        tokens = lax.concatenate([p["token"], x @ p["w"]], 0) + p["position"]
        return jnp.cos(tokens) @ p["out"]

    params = {
        "out": normal(8, 2),
        "position": normal(6, 8),
        "token": normal(1, 8),
        "w": normal(4, 8),
    }
    checked = check_function(apply, params, X)
    assert checked.free == 1
    assert [atom.size for atom in checked.traced.dims.atoms(checked.traced.params[1][0])] == [5]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_stacked_arrays_are_tied(check_function, axis):
    def apply(p, x):
        a, b = x @ p["a"], jnp.cos(x @ p["b"])
        stacked = jnp.stack([a, b], axis)
        return lax.reduce_sum(jnp.sin(stacked) + 2.0, (2 if axis < 2 else 1,))

    checked = check_function(apply, {"a": normal(4, 8), "b": normal(4, 8)}, X)
    assert checked.free == 1


def test_an_axis_of_separate_arrays_stays_whole(check_function):
    def apply(p, x):
        columns = [lax.reduce_sum(x @ p[k], (1,)).reshape(5, 1) for k in ("a", "b")]
        return lax.concatenate(columns, 1) @ p["out"] + jnp.stack(columns, 1)[..., 0] @ p["out"]

    checked = check_function(apply, {**PAIR, "out": normal(2, 3)}, X)
    assert checked.free == 2
    whys = [str(r) for r in checked.traced.dims.reasons(checked.traced.params[2][0])]
    assert whys[0].startswith("it joins separate arrays, one for each entry [")
