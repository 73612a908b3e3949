"""A bound on the density of single leaves: at the start, and where leaves share growth."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wormjax as wj
from wormjax.dst.distributions._capped import capped

KEY = jax.random.key(0)
SHAPES = {"a": (10, 20), "b": (20, 5), "head": (5, 4)}
PARAMS = {k: {"kernel": jax.ShapeDtypeStruct(s, jnp.float32)} for k, s in SHAPES.items()}


def training(**settings):
    options = {"key": KEY, "density": 0.2, "every": 1, "stop": 100, **settings}
    return wj.sparse_training(optax.sgd(0.1, momentum=0.9), **options)


def counts(**settings):
    """Kept entries of every leaf at the start."""
    tx = training(**settings)
    return tx.init(jax.tree.map(lambda x: jnp.ones(x.shape), PARAMS)).counts.tolist()


def test_the_others_get_what_a_bounded_leaf_leaves_in_proportion():
    # ERK: epsilon is 64 / (30 + 25 + 9) = 1, and densities are 0.15, 0.25, 0.45
    may = jax.tree.map(lambda _: True, PARAMS)
    free = wj.dst.distributions.erk()(PARAMS, may, Fraction(1, 5))
    assert free == (30, 25, 9)
    # with 5 in the head, 59 are for the others: 30 and 25 times 59 / 55
    assert counts(max_density={"^head/": 0.25}) == [32, 27, 5]
    # with a quarter everywhere, the second has its bound too
    assert capped(free, (200, 100, 20), "abc", dict.fromkeys("abc", Fraction(1, 4))) == (34, 25, 5)


@settings(deadline=None)
@given(st.data())
def test_bounds_keep_the_sum_and_are_kept(data):
    sizes = data.draw(st.lists(st.integers(1, 50), min_size=1, max_size=5))
    counts = [data.draw(st.integers(1, n)) for n in sizes]
    names = [str(i) for i in range(len(sizes))]
    most = {n: Fraction(data.draw(st.integers(1, 20)), 20) for n in names}
    bounds = [int(most[n] * size) for n, size in zip(names, sizes, strict=True)]
    if sum(bounds) < sum(counts) or min(bounds) < 1:
        with pytest.raises(ValueError, match="Raise max_density"):
            capped(counts, sizes, names, most)
        return
    found = capped(counts, sizes, names, most)
    assert sum(found) == sum(counts)
    assert all(1 <= f <= b for f, b in zip(found, bounds, strict=True))
    if all(c <= b for c, b in zip(counts, bounds, strict=True)):
        assert list(found) == counts


def test_shared_growth_does_not_pass_the_bound():
    params = {k: jnp.ones(s) for k, s in (("a", (4, 5)), ("b", (4, 5)))}
    # nearly all momentum is in a, which may grow to 12 of 20, and takes 99% of its room first
    grads = {"a": 100 * jnp.ones((4, 5)), "b": jnp.ones((4, 5))}
    tx = training(
        density=0.5,
        prunable={"a": True, "b": True},
        distribution="uniform",
        order="before",
        grow="redistribution",
        opt_state="keep",
        mask_gradients=False,
        schedule=wj.dst.schedules.constant(0.4),
        max_density=0.6,
    )
    state = tx.init(params)
    _, state = jax.jit(tx.update)(grads, state, params)
    found = [int(jnp.sum(m)) for m in jax.tree.leaves(state.masks)]
    assert found == [11, 9] == state.counts.tolist()


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match="and 64 are to be kept, at least one of each leaf"):
        counts(max_density=0.1)
    masks = {k: {"kernel": np.ones(s, bool)} for k, s in SHAPES.items()}
    with pytest.raises(
        ValueError, match=r"'head/kernel' keeps 20 units of 20 .* and max_density allows 10"
    ):
        counts(max_density={"^head/": 0.5}, masks=masks, density=None)
    with pytest.raises(ValueError, match=r"density of '.*' must lie in \(0, 1\], got 2"):
        counts(max_density=2)
