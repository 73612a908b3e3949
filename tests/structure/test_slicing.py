"""Cutting arrays: the kept entries, where the array was and of its dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wormjax.structure._slicing import cut

ROWS, COLUMNS = np.array([0, 2]), np.array([1, 3, 4])
FULL = np.arange(15.0).reshape(3, 5)
KEPT = {0: ROWS, 1: COLUMNS}
EXPECTED = FULL[np.ix_(ROWS, COLUMNS)]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int8, jnp.bool_])
def test_an_array_keeps_its_dtype(dtype):
    got = cut(jnp.asarray(FULL, dtype), KEPT)
    assert isinstance(got, jax.Array)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, np.asarray(jnp.asarray(EXPECTED, dtype)))


def test_an_array_stays_where_it_was():
    last = jax.devices()[-1]
    committed = cut(jax.device_put(jnp.asarray(FULL, jnp.float32), last), KEPT)
    assert committed.committed
    assert committed.devices() == {last}
    assert not cut(jnp.asarray(FULL, jnp.float32), KEPT).committed


def test_a_sharded_array_is_cut_on_its_devices():
    mesh = jax.make_mesh((4,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    full = np.arange(40.0, dtype=np.float32).reshape(8, 5)
    sharded = jax.device_put(full, jax.NamedSharding(mesh, jax.P("rows")))
    got = cut(sharded, {1: COLUMNS})
    assert len(got.devices()) == 4
    np.testing.assert_array_equal(got, full[:, COLUMNS])


def test_it_is_differentiable_inside_jit():
    grad = jax.jit(jax.grad(lambda x: jnp.sum(cut(x, KEPT) ** 2)))(jnp.asarray(FULL, jnp.float32))
    expected = np.zeros_like(FULL)
    expected[np.ix_(ROWS, COLUMNS)] = 2 * EXPECTED
    np.testing.assert_allclose(grad, expected)


def test_keys_of_random_numbers_are_cut():
    keys = jax.random.split(jax.random.key(0), 5)
    got = cut(keys, {0: COLUMNS})
    np.testing.assert_array_equal(jax.random.key_data(got), jax.random.key_data(keys)[COLUMNS])


def test_nothing_to_cut_is_the_same_array():
    array = jnp.asarray(FULL, jnp.float32)
    assert cut(array, {}) is array
