"""Random scores: explicit keys, independence between leaves, open interval."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wormjax import scores

PARAMS = {"a": jnp.ones((50, 40)), "b": jnp.ones((50, 40)), "bias": jnp.ones(40)}


def test_values_look_uniform_on_the_open_interval():
    drawn = np.asarray(scores.random(PARAMS, jax.random.key(0))["a"])
    assert drawn.min() > 0
    assert drawn.max() < 1
    # 2000 draws: the largest gap to the uniform distribution exceeds 0.05 with probability 1e-4
    gap = np.abs(np.sort(drawn.ravel()) - (np.arange(2000) + 0.5) / 2000).max()
    assert gap < 0.05


def test_the_ends_of_the_grid_stay_inside(monkeypatch):
    for end, expected in [(0.0, 2.0**-24), (1.0 - 2.0**-23, 1.0 - 2.0**-24)]:
        monkeypatch.setattr(
            jax.random, "uniform", lambda key, shape, dtype, end=end: jnp.full(shape, end, dtype)
        )
        drawn = scores.random(PARAMS, jax.random.key(0))["a"]
        assert float(drawn[0, 0]) == expected


def test_keys_decide_and_leaves_differ():
    one = scores.random(PARAMS, jax.random.key(1))
    same = scores.random(PARAMS, jax.random.key(1))
    other = scores.random(PARAMS, jax.random.key(2))
    np.testing.assert_array_equal(one["a"], same["a"])
    assert np.mean(np.asarray(one["a"]) == np.asarray(other["a"])) < 0.01
    assert np.mean(np.asarray(one["a"]) == np.asarray(one["b"])) < 0.01
    correlation = np.corrcoef(np.ravel(one["a"]), np.ravel(one["b"]))[0, 1]
    assert abs(correlation) < 0.1  # standard deviation 0.022


def test_raw_keys_work_too():
    typed = scores.random(PARAMS, jax.random.key(3))
    raw = scores.random(PARAMS, jax.random.key_data(jax.random.key(3)))
    np.testing.assert_array_equal(typed["a"], raw["a"])


def test_a_part_gets_the_numbers_of_the_whole():
    whole = scores.random(PARAMS, jax.random.key(4))
    part = scores.random(PARAMS | {"a": optax.MaskedNode()}, jax.random.key(4))
    np.testing.assert_array_equal(part["b"], whole["b"])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_numbers_do_not_depend_on_the_dtype(dtype):
    narrow = scores.random(jax.tree.map(lambda x: x.astype(dtype), PARAMS), jax.random.key(5))
    assert narrow["a"].dtype == jnp.float32
    np.testing.assert_array_equal(narrow["a"], scores.random(PARAMS, jax.random.key(5))["a"])
