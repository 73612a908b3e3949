"""Ranges at computed positions: such an axis stays whole, the others pass."""

import jax.numpy as jnp
import numpy as np
from jax import lax


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


X, AT = normal(5, 4), np.int32(2)


def centred(hidden):
    """Removed channels hold minus the mean of the row."""
    return hidden - lax.reduce_sum(hidden, (1,)).reshape(5, 1) / hidden.shape[1]


def test_a_row_is_read_at_a_computed_position(check_function):
    def apply(w, x, at):
        rows = lax.dynamic_slice(centred(x @ w), (at, np.int32(0)), (2, 8))
        return lax.reduce_sum(jnp.cos(rows), (1,))

    assert check_function(apply, normal(4, 8), X, AT).free == 1


def test_channels_read_at_a_computed_position_stay_whole(check_function):
    def apply(p, x, at):
        return jnp.cos(lax.dynamic_slice_in_dim(x @ p["w"], at, 3, 1) @ p["v"]) @ p["out"]

    params = {"out": normal(6, 2), "v": normal(3, 6), "w": normal(4, 8)}
    checked = check_function(apply, params, X, AT)
    assert checked.free == 1
    for leaf, axis in ((1, 0), (2, 1)):
        [why] = checked.traced.dims.reasons(checked.traced.params[leaf][axis])
        assert str(why).startswith(
            "an entry is looked up at a position that is computed [dynamic_slice"
        )


def test_channels_read_at_a_written_position_are_cut(check_function):
    def apply(p, x):
        hidden = centred(x @ p["w"])
        middle = lax.dynamic_slice(hidden, (0, 3), (5, 4))
        last = lax.dynamic_slice(hidden, (0, 99), (5, 5))  # moved back to 7
        return lax.reduce_sum(jnp.cos(middle), (1,)).reshape(5, 1) + last @ p["out"]

    checked = check_function(apply, {"out": normal(5, 3), "w": normal(4, 12)}, X)
    assert checked.free == 3
    sizes = [a.size for a in checked.traced.dims.atoms(checked.traced.params[1][1])]
    assert sizes == [3, 4, 5]


def test_a_row_of_a_cache_is_written(check_function):
    def apply(p, cache, x, at):
        row = lax.dynamic_slice(centred(x @ p["w"]), (at, np.int32(0)), (1, 8))
        cache = lax.dynamic_update_slice(cache, row, (at, np.int32(0)))
        return jnp.cos(cache) @ p["out"], cache

    params = {"out": normal(8, 3), "w": normal(4, 8)}
    checked = check_function(apply, params, X, AT, state=normal(5, 8))
    assert checked.free == 1
    [time, channels] = checked.traced.state[0]
    assert str(checked.traced.dims.reasons(time)[0]).startswith(
        "a part of it is overwritten [dynamic_"
    )
    assert checked.traced.dims.same(channels, checked.traced.params[1][1])


def test_what_is_overwritten_and_what_is_not(check_function):
    def apply(p, x, at):
        old, new = jnp.cos(x @ p["a"]), x @ p["b"]  # removed channels hold 1, and 0 in the new rows
        row = lax.slice(new, (0, 0), (2, 8))
        rows = lax.dynamic_update_slice(old, row, (at, np.int32(0)))
        return lax.reduce_sum(rows * rows, (1,))

    assert check_function(apply, {"a": normal(4, 8), "b": normal(4, 8)}, X, AT).free == 1


def test_overwritten_channels_stay_whole(check_function):
    def apply(p, x):
        hidden = lax.dynamic_update_slice(x @ p["w"], x, (0, 2))
        return jnp.cos(hidden @ p["v"]) @ p["out"]

    params = {"out": normal(6, 2), "v": normal(8, 6), "w": normal(4, 8)}
    checked = check_function(apply, params, X)
    assert checked.free == 1
    [why] = checked.traced.dims.reasons(checked.traced.params[2][1])
    assert str(why).startswith("a part of it is overwritten [dynamic_update_slice at test_")
