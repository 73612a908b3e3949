"""A fraction of the training needs its length, and the error says which words to add."""

import jax
import jax.numpy as jnp
import optax
import pytest

import wormjax as wj


def designed(**more):
    """The call of the design document."""
    return wj.sparse_training(
        optax.adamw(1e-3),
        key=jax.random.key(0),
        density=0.1,
        distribution="erk",
        drop="magnitude",
        grow="gradient",
        schedule=wj.dst.schedules.cosine(0.5),
        every=100,
        stop=0.75,
        **more,
    )


def test_the_error_says_what_to_add():
    with pytest.raises(ValueError, match=r"stop=0.75 is a fraction of the training") as told:
        designed()
    assert "total_steps=epochs * batches_per_epoch" in str(told.value)
    assert "stop=7500 of 10,000" in str(told.value)


def test_what_it_says_runs_and_is_the_same_as_the_step():
    params = {"kernel": jnp.ones((8, 8))}
    state = designed(total_steps=1000).init(params)
    assert int(state.masks["kernel"].sum()) == 6
    by_share = wj.dst._timing.Timing.of(100, 1, 0.75, 1000, True, False)
    assert by_share == wj.dst._timing.Timing.of(100, 1, 750, None, True, False)
