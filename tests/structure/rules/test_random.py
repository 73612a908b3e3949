"""Random numbers: keys stay whole, draws lose what is pruned, and every kept entry gets its own number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.random import threefry2x32_p

from wormjax.structure._trace import trace
from wormjax.structure.rules import PROPAGATE


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


PARAMS, X = {"a": normal(4, 8), "b": normal(8, 3)}, normal(5, 4)

DRAWS = {
    "uniform": lambda key, shape: jax.random.uniform(key, shape),
    "normal": lambda key, shape: jax.random.normal(key, shape),
    "bernoulli": lambda key, shape: jax.random.bernoulli(key, 0.7, shape).astype(jnp.float32),
    "integers": lambda key, shape: jax.random.randint(key, shape, 0, 9).astype(jnp.float32),
    "half": lambda key, shape: jax.random.normal(key, shape, jnp.bfloat16).astype(jnp.float32),
    "exponential": lambda key, shape: jax.random.exponential(key, shape),
    "truncated": lambda key, shape: jax.random.truncated_normal(key, -1.0, 1.0, shape),
    "another key": lambda key, shape: jax.random.normal(
        jax.random.fold_in(jax.random.split(key)[1], 7), shape
    ),
    "raw key": lambda key, shape: jax.random.normal(jax.random.PRNGKey(3), shape),
    "words of a key": lambda key, shape: jax.random.uniform(
        jax.random.wrap_key_data(jax.random.key_data(key)), shape
    ),
    "one key a row": lambda key, shape: jax.vmap(lambda k: jax.random.normal(k, shape[1:]))(
        jax.random.split(key, shape[0])
    ),
    "bit generator": lambda key, shape: (
        lax.rng_bit_generator(jnp.arange(4, dtype=jnp.uint32), shape)[1] >> 8
    ).astype(jnp.float32),
}


@pytest.mark.parametrize("name", DRAWS)
def test_kept_entries_get_the_numbers_of_the_full_network(check_function, name):
    def apply(p, x):
        hidden = x @ p["a"]
        noise = DRAWS[name](jax.random.key(1), hidden.shape)
        return (hidden * noise) @ p["b"], (hidden + noise) @ p["b"]

    checked = check_function(apply, PARAMS, X)
    assert checked.free == 1
    assert checked.traced.dims.same(checked.traced.params[0][1], checked.traced.params[1][0])


def test_dropout_of_zeros_is_zero(check_function):
    def apply(p, x):
        hidden = x @ p["a"]
        kept = jax.random.bernoulli(jax.random.key(1), 0.5, hidden.shape)
        # the sum needs what the removed entries hold, of which the drawn mask says nothing
        return jnp.where(kept, hidden / 0.5, 0.0).sum(axis=1)

    assert check_function(apply, {"a": PARAMS["a"]}, X).free == 1


def test_a_key_that_is_an_input(check_function):
    def apply(p, x, data):
        hidden = x @ p["a"]
        noise = jax.random.normal(jax.random.wrap_key_data(data), hidden.shape)
        return (hidden + noise) @ p["b"]

    data = jax.random.key_data(jax.random.key(5))
    assert check_function(apply, PARAMS, X, data).free == 1


def test_axes_of_keys_stay_whole():
    def apply(seeds, x):
        keys = jax.vmap(jax.random.key)(seeds)
        return jax.vmap(lambda k: jax.random.normal(k, (3,)))(keys) + x

    traced = trace(apply, np.arange(5), (normal(5, 3),), None, PROPAGATE)
    assert "it is an axis of random keys" in [
        r.why for r in traced.dims.reasons(traced.params[0][0])
    ]


def test_hashing_counters_passes(check_function):
    def apply(p, x):
        hidden = x @ p["a"]
        counters = jnp.arange(8, dtype=jnp.uint32)
        one, two = threefry2x32_p.bind(np.uint32(1), np.uint32(2), counters, counters + 5)
        return (hidden * (one ^ two).astype(jnp.float32)[None] / 2.0**32) @ p["b"]

    assert check_function(apply, PARAMS, X).free == 1
