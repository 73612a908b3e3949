"""Writing slices at indices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wormjax.structure._trace import trace
from wormjax.structure.rules import PROPAGATE


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


A, B, X = normal(4, 8), normal(8, 3), normal(5, 4)
IDS = np.asarray([1, 6, 0, 4, 6], np.int32)

WRITES = {
    "add": lambda at, x: at.add(x),
    "set": lambda at, x: at.set(x, mode="clip"),
    "subtract": lambda at, x: at.subtract(x),
    "multiply": lambda at, x: at.multiply(x, unique_indices=True),
    "min": lambda at, x: at.min(x),
    "max": lambda at, x: at.max(x),
}


@pytest.mark.parametrize("into", ["zeros", "ones"])
@pytest.mark.parametrize("name", WRITES)
def test_features_pass(check_function, name, into):
    ids = IDS if name in ("add", "subtract") else np.asarray([1, 6, 0, 4, 2], np.int32)

    def apply(p, x, ids):
        hidden = jnp.cos(x @ p["a"])
        table = WRITES[name](getattr(jnp, into)((7, 8)).at[ids], hidden)
        table = WRITES[name](table.at[ids], hidden - 1.0)
        return table @ p["b"], jnp.sum(jnp.sin(table), axis=1)

    assert check_function(apply, {"a": A, "b": B}, X, ids).free == 1


def test_pooling_of_segments(check_function):
    def apply(p, x, ids):
        sums = jax.ops.segment_sum(jnp.tanh(x @ p["a"]), ids, 7)
        most = jax.ops.segment_max(jnp.tanh(x @ p["a"]), ids, 7)
        return sums @ p["b"] + jnp.where(jnp.isfinite(most), most, 0.0) @ p["b"]

    assert check_function(apply, {"a": A, "b": B}, X, IDS).free == 1


def test_one_row_of_each_example(check_function):
    def apply(p, x, ids):
        hidden = jnp.cos(jnp.einsum("ni,tij->ntj", x, p["a"]))  # (5, 3, 8)
        return hidden.at[jnp.arange(5), ids].set(1.5) @ p["b"], hidden.at[:, 0].add(2.0).sum(axis=2)

    params = {"a": normal(3, 4, 8), "b": B}
    assert check_function(apply, params, X, np.asarray([1, 2, 0, 1, 2], np.int32)).free == 1


def test_batched_writes_tie_their_batch(check_function):
    def apply(p, x, ids):
        hidden = jnp.cos(x @ p["a"]).T  # (8, 5): a channel each
        write = jax.vmap(lambda row, at, value: row.at[at].add(value), (0, None, 0))
        return jnp.sum(write(hidden, ids, hidden[:, :2]) * jnp.arange(5.0)[None], axis=0)

    traced = trace(apply, {"a": A}, (X, np.asarray([1, 3], np.int32)), None, PROPAGATE)
    assert not traced.dims.reasons(traced.params[0][1])
    assert check_function(apply, {"a": A}, X, np.asarray([1, 3], np.int32)).free == 1


def test_what_is_indexed_or_meets_stays_whole():
    def apply(p, x, ids):
        return jnp.zeros((5, 8)).at[:, ids].add(x @ p["a"]), jnp.zeros((7, 3)).at[ids].add(p["b"])

    ids = np.asarray([1, 6, 0, 4, 6, 2, 3, 3], np.int32)
    traced = trace(apply, {"a": A, "b": B}, (X, ids), None, PROPAGATE)
    for axes, axis in zip(traced.params, (1, 0), strict=True):
        why = [reason.why for reason in traced.dims.reasons(axes[axis])]
        assert "slices along this axis are written to one place" in why

    def into(p, x, ids):
        return jnp.sum((x @ p["a"]).at[:, ids].add(1.0), axis=1)

    traced = trace(into, {"a": A}, (X, ids), None, PROPAGATE)
    [reason] = traced.dims.reasons(traced.params[0][1])
    assert reason.why == "it is written to by index"
    assert reason.primitive == "scatter-add"
    assert reason.source.startswith("test_scatter.py:")


def test_a_channel_axis_that_is_partly_written_stays_whole():
    def apply(p, x):
        return jnp.sum((x @ p["a"]).at[IDS[:2], :3].set(0.0), axis=1)

    traced = trace(apply, {"a": A}, (X,), None, PROPAGATE)
    why = [reason.why for reason in traced.dims.reasons(traced.params[0][1])]
    assert "a part of it is written to" in why
