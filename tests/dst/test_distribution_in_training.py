"""Distributions inside `wj.sparse_training`: exact counts from every door, under jit too."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wormjax as wj

random = np.random.default_rng(0)
PARAMS = {
    "first": {"kernel": jnp.asarray(random.standard_normal((12, 10)), jnp.float32)},
    "last": {
        "bias": jnp.zeros(5),
        "kernel": jnp.asarray(random.standard_normal((10, 5)), jnp.float32),
    },
    "norm": {"scale": jnp.ones((2, 10))},
}


def _tx(distribution, **options):
    return wj.sparse_training(
        optax.sgd(0.1),
        key=jax.random.key(0),
        density=0.3,
        distribution=distribution,
        every=1,
        stop=9,
        **options,
    )


@pytest.mark.parametrize(
    "distribution", ["erk", wj.dst.distributions.uniform_plus(first=None, last="last/kernel")]
)
def test_the_total_is_exact(distribution):
    state = _tx(distribution).init(PARAMS)
    kept, size = wj.count_kept(wj.masks_of(state, PARAMS), PARAMS)
    assert (int(kept), size) == (51, 170)


def test_counts_of_a_selection_are_exact_under_jit():
    expected = wj.dst.distributions.global_magnitude()(
        PARAMS, wj.dst.kernels(PARAMS), Fraction(3, 10)
    )
    state = jax.jit(_tx("global_magnitude").init)(PARAMS)
    masks = wj.masks_of(state, PARAMS)
    assert tuple(int(masks[n]["kernel"].sum()) for n in ("first", "last")) == expected
    blocks = _tx("global_magnitude", pattern=wj.dst.patterns.block((2, 5)))
    with pytest.raises(TypeError, match="'first/kernel' depends on arrays that are being traced"):
        jax.jit(blocks.init)(PARAMS)


def test_stacked_scales_are_not_pruned():
    masks = wj.masks_of(_tx("uniform").init(PARAMS), PARAMS)
    assert masks["norm"]["scale"].ndim == 0
    assert masks["last"]["bias"].ndim == 0
