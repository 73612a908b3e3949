"""A function of one seed, lifted: against a Python loop, and against the compiler's counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.training import PerSeed


def trees(seeds):
    rng = np.random.default_rng(seeds)
    w, b = rng.normal(size=(seeds, 3, 2)), rng.normal(size=seeds)
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds, dtype=jnp.uint32))
    return {"w": jnp.asarray(w, jnp.float32), "b": jnp.asarray(b, jnp.float32)}, keys


def mix(params, key):
    """Ranks, keys, a structure of its own and an integer: what a lifted function may hold."""
    noise = jax.random.normal(key, params["w"].shape)
    return {"noisy": params["w"] + noise, "rank": jnp.int32(params["w"].ndim)}, params["b"] * 2


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_every_seed_gets_what_it_gets_alone(seeds):
    params, keys = trees(seeds)
    lifted = PerSeed(mix)(params, keys)
    for seed in range(seeds):
        alone = mix({name: x[seed] for name, x in params.items()}, keys[seed])
        for got, want in zip(jax.tree.leaves(lifted), jax.tree.leaves(alone), strict=True):
            assert (got.shape, got.dtype) == ((seeds, *want.shape), want.dtype)
            np.testing.assert_allclose(got[seed], want, rtol=1e-6)


def test_the_function_never_sees_the_seed_axis():
    seen = []

    def look(x):
        seen.append(x.shape)
        return x

    for seeds in (1, 3):
        PerSeed(look)(jnp.zeros((seeds, 4, 2)))
    assert seen == [(4, 2), (4, 2)]


def test_values_never_recompile_and_another_number_of_seeds_does():
    traces = []

    def total(x):
        traces.append(x.shape)
        return jnp.sum(x)

    lifted = PerSeed(total)
    assert lifted.compile_seconds == 0.0
    for value in (1.0, 2.0, 3.0):
        assert lifted(jnp.full((2, 3), value)).tolist() == [3 * value] * 2
    once = lifted.compile_seconds
    assert once > 0
    assert len(traces) == 1
    lifted(jnp.ones((1, 3)))
    assert len(traces) == 2
    assert lifted.compile_seconds > once


def test_compile_runs_nothing_and_takes_shapes():
    lifted = PerSeed(lambda x: x + 1)
    lifted.compile(jax.ShapeDtypeStruct((2, 3), jnp.float32))
    seconds = lifted.compile_seconds
    assert seconds > 0
    lifted.compile(jax.ShapeDtypeStruct((2, 3), jnp.float32))
    assert lifted.compile_seconds == seconds


def test_its_arguments_are_not_donated():
    params, keys = trees(2)
    PerSeed(mix)(params, keys)
    assert not any(x.is_deleted() for x in jax.tree.leaves((params, keys)))


def test_one_seed_keeps_a_conditional_a_conditional():
    """Under vmap a `cond` whose predicate has the seed axis runs both branches; one seed is not mapped."""
    lifted = PerSeed(lambda on, x: jax.lax.cond(on, jnp.sin, jnp.cos, x))
    lifted.compile(jnp.ones(1, bool), jnp.ones((1, 4)))
    [program] = lifted._program._programs.values()
    assert "conditional" in program.as_text()
