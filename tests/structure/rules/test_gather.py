"""Looking up slices at indices."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from wormjax.structure._trace import trace
from wormjax.structure.rules import PROPAGATE


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


TABLE, B = normal(10, 8), normal(8, 3)
IDS = np.asarray([[1, 9, 0], [4, 4, 2]], np.int32)

LOOKUPS = {
    "index": lambda table, ids: table[ids],
    "take": lambda table, ids: jnp.take(table, ids, axis=0),
    "clip": lambda table, ids: jnp.take(table, ids, axis=0, mode="clip"),
    "wrap": lambda table, ids: jnp.take(table, ids, axis=0, mode="wrap"),
    "fill": lambda table, ids: table.at[ids + 5].get(mode="fill", fill_value=2.5),
    "last axis": lambda table, ids: jnp.moveaxis(jnp.take(table.T, ids, axis=1), 0, -1),
}


@pytest.mark.parametrize("name", LOOKUPS)
def test_an_embedding_keeps_its_rows_and_passes_its_features(check_function, name):
    def apply(p, ids):
        rows = lax.cos(LOOKUPS[name](p["table"], ids))
        return rows @ p["b"], jnp.sum(rows, axis=-1)

    checked = check_function(apply, {"table": TABLE, "b": B}, IDS)
    assert checked.free == 1
    (b, table), dims = checked.traced.params, checked.traced.dims
    assert dims.same(table[1], b[0])
    [reason] = dims.reasons(table[0])
    assert reason.why == "it is looked up by index"
    assert reason.primitive == "gather"
    # the line of the call, in what JAX itself compiles
    assert reason.source.startswith("test_gather.py:")


def test_a_tied_unembedding(check_function):
    def apply(table, ids):
        return jnp.tanh(table[ids]) @ table.T

    assert check_function(apply, TABLE, IDS).free == 1


def test_take_along_an_axis(check_function):
    def apply(p, x, ids):
        hidden = jnp.cos(x @ p["a"])  # (5, 8): a row for each of 5
        best = jnp.take_along_axis(hidden, ids, axis=0)  # (1, 8), each channel its own row
        return best @ p["b"]

    params = {"a": normal(4, 8), "b": B}
    traced = trace(apply, params, (normal(5, 4), np.zeros((1, 1), np.int32)), None, PROPAGATE)
    assert not traced.dims.reasons(traced.params[0][1])
    assert check_function(apply, params, normal(5, 4), np.asarray([[3]], np.int32)).free == 1


def test_positions_for_each_channel_tie_the_channels(check_function):
    def apply(p, x):
        hidden = jnp.cos(x @ p["a"])
        rows = jnp.argmax(hidden, axis=0, keepdims=True)  # (1, 8)
        return jnp.take_along_axis(hidden, rows, axis=0) @ p["b"]

    assert check_function(apply, {"a": normal(4, 8), "b": B}, normal(5, 4)).free == 1


def test_slices_at_traced_positions(check_function):
    def apply(p, x, start):
        hidden = jnp.cos(x @ p["a"])  # (6, 8)
        windows = jnp.stack([hidden[start + k] for k in range(3)])
        each = lax.gather(  # two windows of 3 rows
            hidden,
            jnp.stack([start, start + 1])[:, None],
            lax.GatherDimensionNumbers((1, 2), (), (0,)),
            (3, 8),
            mode="clip",
        )
        return windows @ p["b"], each.sum(axis=(0, 2))

    params = {"a": normal(4, 8), "b": B}
    checked = check_function(apply, params, normal(6, 4), np.asarray(1, np.int32))
    assert checked.free == 1


# positions that the program's text does not tell, or that no dim says
WHOLE = {
    "computed": lambda h, _: jnp.take(h, jnp.argmax(h[:, :1], axis=0), axis=1),
    "an input": lambda h, ids: h[:, ids],
    "from a loop": lambda h, _: lax.fori_loop(
        0, 2, lambda k, c: c + jnp.take(h, jnp.arange(8) - k, axis=1), h
    ),
    "beyond the bounds": lambda h, _: jnp.take(h, np.asarray([3, 9]), axis=1),
    "a table of positions": lambda h, _: h[:, np.arange(16).reshape(4, 4) % 8],
    "some repeated": lambda h, _: h[:, np.asarray([[0, 1], [2, 1]])],
    "across factors": lambda h, _: (
        h.reshape(5, 2, 4).swapaxes(1, 2).reshape(5, 8)[:, np.asarray([3, 1, 2])]
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_channel_axis_whose_positions_are_not_told_stays_whole(name):
    def apply(p, x, ids):
        return WHOLE[name](x @ p, ids)

    inputs = normal(5, 4), np.arange(4)
    traced = trace(apply, normal(4, 8), inputs, None, PROPAGATE)
    [why] = [r for r in traced.dims.reasons(traced.params[0][1]) if "looked up" in r.why]
    assert why.why == "it is looked up by index"
    assert why.primitive == "gather"
    assert why.source.startswith("test_gather.py:")


def test_part_of_a_channel_axis_stays_whole():
    def apply(p, x):
        numbers = lax.GatherDimensionNumbers((1, 2), (), (0,))
        rows = np.asarray([[0], [2]], np.int32)
        return jnp.sum(lax.gather(x @ p, rows, numbers, (1, 3)))

    traced = trace(apply, normal(4, 8), (normal(5, 4),), None, PROPAGATE)
    [reason] = traced.dims.reasons(traced.params[0][1])
    assert reason.why == "a part of it is looked up"


def test_lookup_of_size_one_axes(check_function):
    def apply(p, ids):
        table = p["table"][:, None, :]  # (10, 1, 8)
        return jnp.take(table, ids, axis=0) @ p["b"], table[ids, 0] @ p["b"]

    assert check_function(apply, {"table": TABLE, "b": B}, IDS).free == 1


def test_a_clamped_index_into_an_axis_that_is_taken_whole(check_function):
    # Equinox's embedding indexes every axis, with the start 0 where the slice is the whole axis
    def apply(p, ids):
        numbers = lax.GatherDimensionNumbers(
            offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0, 1)
        )
        start = jnp.stack([ids, jnp.zeros_like(ids)], axis=1)
        rows = lax.gather(p["table"], start, numbers, (1, 5), mode="clip")
        return jnp.tanh(rows) @ p["out"]

    rng = np.random.default_rng(0)
    params = {
        "table": jnp.asarray(rng.normal(size=(7, 5)), jnp.float32),
        "out": jnp.asarray(rng.normal(size=(5, 2)), jnp.float32),
    }
    checked = check_function(apply, params, jnp.array([3, 0, 6, 3]))
    assert checked.free == 1
