"""Counting: the kept entries keep their numbers."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


X = normal(5, 4)


def test_numbers_belong_to_entries(check_function):
    def apply(p, x):
        numbers = lax.broadcasted_iota(jnp.float32, (5, 8), 1)
        return ((x @ p["w"]) * jnp.cos(numbers)) @ p["out"]

    assert check_function(apply, {"w": normal(4, 8), "out": normal(8, 3)}, X).free == 1


def test_a_mask_by_number(check_function):
    def apply(w, x):
        early = lax.broadcasted_iota(jnp.int32, (5, 8), 1) < 3
        return lax.reduce_sum(jnp.where(early, x @ w, jnp.zeros((5, 8))), (1,))

    assert check_function(apply, normal(4, 8), X).free == 1


def test_one_hot_rows(check_function):
    def apply(p, tokens):
        numbers = lax.broadcasted_iota(jnp.int32, (6, 8), 1)
        chosen = (lax.broadcast_in_dim(tokens, (6, 8), (0,)) == numbers).astype(jnp.float32)
        return jnp.cos(chosen @ p["table"]) @ p["out"]

    params = {"out": normal(3, 2), "table": normal(8, 3)}
    checked = check_function(apply, params, np.array([0, 7, 3, 3, 5, 1], np.int32))
    assert checked.free == 2  # words, and channels


@pytest.mark.parametrize("seed", range(3))
def test_a_single_removed_entry_is_known(check_function, seed):
    def apply(w, x):
        numbers = lax.broadcasted_iota(jnp.float32, (5, 8), 1)
        return lax.reduce_sum(numbers, (1,)) + lax.reduce_sum(numbers * (x @ w), (1,))

    assert check_function(apply, normal(4, 8), X, ratio=0.125, seed=seed).free == 1


def test_several_removed_entries_are_counted_one_by_one(check_function):
    def apply(w, x):
        numbers = lax.broadcasted_iota(jnp.float32, (5, 8), 1)
        return lax.reduce_sum(numbers, (1,)) + lax.reduce_sum(numbers * (x @ w), (1,))

    assert check_function(apply, normal(4, 8), X).free == 1


def test_along_other_axes_the_numbers_repeat(check_function):
    def apply(w, x):
        numbers = lax.broadcasted_iota(jnp.float32, (5, 8), 0)
        return lax.reduce_sum(numbers, (1,)) + lax.reduce_sum(numbers * (x @ w), (1,))

    assert check_function(apply, normal(4, 8), X).free == 1
