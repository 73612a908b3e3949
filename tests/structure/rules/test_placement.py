"""Primitives that place or name an array and leave it as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from wormjax.structure._replay import Replay, Value, zeros_removed
from wormjax.structure._trace import trace
from wormjax.structure.rules import EVALUATE, PROPAGATE


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


PARAMS, X = {"a": normal(4, 8), "b": normal(8, 3)}, normal(6, 4)
MESH = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto))


def sharded(*spec):
    return lambda x: lax.with_sharding_constraint(x, NamedSharding(MESH, PartitionSpec(*spec)))


PLACES = {
    "barrier": lambda x: lax.optimization_barrier((x, x + 1.0))[0],
    "device": lambda x: jax.device_put(x),
    "name": lambda x: checkpoint_name(x, "hidden"),
    "sharded": sharded("data", "model"),
    "sharded by both": sharded(None, ("data", "model")),
    "sharded in front": sharded("data"),
    "sharded somehow": sharded(PartitionSpec.UNCONSTRAINED, "model"),
    "replicated": sharded(),
}


@pytest.mark.parametrize("ratio", [0.4, 0.5])  # 5 of 8 channels, and 4 that the mesh can divide
@pytest.mark.parametrize("name", PLACES)
def test_everything_passes(check_function, name, ratio):
    def apply(p, x):
        hidden = PLACES[name](lax.cos(x @ p["a"]))
        return hidden @ p["b"], lax.reduce_sum(hidden, (1,))

    assert check_function(apply, PARAMS, X, ratio=ratio).free == 1


@pytest.mark.parametrize("kept", [5, 4])
def test_a_size_that_the_mesh_does_not_divide_is_left_unsharded(kept):
    def apply(p, x):
        return sharded("data", "model")(x @ p["a"])

    traced = trace(apply, {"a": PARAMS["a"]}, (X,), None, PROPAGATE)
    mask = np.arange(8) < kept
    run = Replay(traced.dims, {traced.dims.find(traced.params[0][1]): mask}, EVALUATE, traced.scope)
    small = jnp.asarray(PARAMS["a"][:, mask])
    # outside of jit, where JAX is strict about it
    [result] = run.closed(traced.closed, [zeros_removed(small), Value(jnp.asarray(X))])
    expected = PartitionSpec("data", "model" if kept == 4 else None)
    assert result.array.sharding.is_equivalent_to(NamedSharding(MESH, expected), 2)
    np.testing.assert_allclose(result.array, X @ PARAMS["a"][:, mask], rtol=1e-5, atol=1e-5)


def test_operands_of_a_barrier_are_not_tied(check_function):
    def apply(p, x):
        left, right = lax.optimization_barrier((x @ p["a"], x @ p["c"]))
        return left @ p["b"], lax.reduce_sum(right, (1,))

    assert check_function(apply, {**PARAMS, "c": normal(4, 8)}, X).free == 2


EXPLICIT = jax.make_mesh(
    (2, 4), ("data", "model"), axis_types=(AxisType.Explicit, AxisType.Explicit)
)


def test_channels_pass_beside_axes_that_are_explicitly_sharded(check_function):
    def apply(p, x):
        rows = jax.sharding.reshard(x, PartitionSpec("data", None))
        hidden = lax.cos(rows @ p["a"]) + rows[:, :1]  # what is removed differs from row to row
        moved = jax.sharding.reshard(hidden, PartitionSpec("model", None))
        centred = moved - jnp.mean(moved, axis=1, keepdims=True)
        return jax.sharding.reshard(centred @ p["b"], PartitionSpec(None, None))

    with jax.set_mesh(EXPLICIT):
        assert check_function(apply, PARAMS, normal(8, 4)).free == 1


def test_channels_that_are_explicitly_sharded_stay_whole(check_function):
    def apply(p, x):
        hidden = jax.sharding.reshard(x @ p["a"], PartitionSpec("data", "model"))
        whole = jax.sharding.reshard(lax.cos(hidden), PartitionSpec(None, None))
        return (lax.cos(whole @ p["b"]) @ p["c"]).sum(1)

    with jax.set_mesh(EXPLICIT):
        checked = check_function(apply, {**PARAMS, "c": normal(3, 4)}, X)
    assert checked.free == 2
    [reason] = checked.traced.dims.reasons(checked.traced.params[0][1])
    assert str(reason).startswith(
        "it is sharded over the mesh axis 'model' [reshard at test_placement.py:"
    )


def test_parameters_that_come_explicitly_sharded_stay_whole():
    with jax.set_mesh(EXPLICIT):
        kernel = jax.device_put(PARAMS["a"], PartitionSpec(None, "model"))
        traced = trace(lambda p, x: x @ p["a"], {"a": kernel}, (jnp.asarray(X),), None, PROPAGATE)
    reasons = [str(r) for r in traced.dims.reasons(traced.params[0][1])]
    assert reasons[0] == "it is sharded over the mesh axis 'model'"


def test_a_cast_to_automatic_mesh_axes_is_a_barrier(check_function):
    def apply(p, x):
        rows = jax.sharding.reshard(x, PartitionSpec("data", None))
        rows = lax.cos(rows @ p["e"]) @ p["f"]
        inside = jax.sharding.auto_axes(
            lambda h: lax.cos(h), axes="model", out_sharding=PartitionSpec("data", None)
        )
        return jax.sharding.reshard(inside(rows @ p["a"]) @ p["b"], PartitionSpec(None, None))

    with jax.set_mesh(EXPLICIT):
        checked = check_function(apply, {**PARAMS, "e": normal(4, 6), "f": normal(6, 4)}, X)
    assert checked.free == 2
    [reason] = checked.traced.dims.reasons(checked.traced.params[0][1])
    assert reason.primitive == "reshard"
    assert "no rule says what this primitive does" in reason.why
