import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import wormjax as wj

SHAPES = {"a": (4, 3), "b": (9,), "c": (1, 1, 5)}
draw = jax.jit(wj.random_like)


def _masks(counts):
    """Masks that keep the first entries of every leaf, so many as said."""
    masks = {
        name: jnp.asarray((np.arange(np.prod(shape)) < count).reshape(shape))
        for (name, shape), count in zip(SHAPES.items(), counts, strict=True)
    }
    return {**masks, "never": jnp.array(True)}


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31 - 1),
    st.tuples(st.integers(0, 12), st.integers(0, 9), st.integers(0, 5)),
)
def test_every_leaf_keeps_its_count(seed, counts):
    masks = _masks(counts)
    drawn = draw(jax.random.key(seed), masks)
    assert jax.tree.structure(drawn) == jax.tree.structure(masks)
    assert tuple(int(drawn[name].sum()) for name in SHAPES) == counts
    assert {name: drawn[name].shape for name in SHAPES} == SHAPES
    assert drawn["never"].shape == ()
    assert bool(drawn["never"])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(0, 9), st.integers(0, 9))
def test_masks_of_growing_counts_are_nested(seed, few, many):
    few, many = sorted((few, many))
    small, large = (draw(jax.random.key(seed), _masks((0, n, 0)))["b"] for n in (few, many))
    assert bool(jnp.all(large | ~small))


def test_one_key_draws_one_mask_and_outside_jit_the_same():
    masks = _masks((6, 4, 2))
    a, b = draw(jax.random.key(1), masks), wj.random_like(jax.random.key(1), masks)
    assert float(wj.mask_distance(a, b)) == 0.0
    assert float(wj.mask_distance(a, draw(jax.random.key(2), masks))) > 0.0


def test_64_bit_numbers_draw_the_same_mask():
    masks = _masks((6, 4, 2))
    a = draw(jax.random.key(1), masks)
    with jax.enable_x64(True):
        b = draw(jax.random.key(1), masks)
    assert float(wj.mask_distance(a, b)) == 0.0


def test_where_the_given_mask_keeps_does_not_matter():
    first = _masks((6, 4, 2))
    last = jax.tree.map(lambda m: jnp.flip(m) if m.ndim else m, first)
    a, b = draw(jax.random.key(3), first), draw(jax.random.key(3), last)
    assert float(wj.mask_distance(a, b)) == 0.0


def test_leaves_of_one_shape_are_drawn_apart():
    mask = jnp.arange(64) < 32
    drawn = draw(jax.random.key(0), {"x": mask, "y": mask})
    assert bool(jnp.any(drawn["x"] != drawn["y"]))


def test_every_entry_is_kept_equally_often():
    n, kept, draws = 12, 3, 2000
    mask = {"w": jnp.arange(n) < kept}
    keys = jax.random.split(jax.random.key(0), draws)
    drawn = jax.jit(jax.vmap(wj.random_like, in_axes=(0, None)))(keys, mask)["w"]
    assert set(np.asarray(drawn.sum(axis=1))) == {kept}
    p = kept / n
    deviation = (drawn.mean(axis=0) - p) / np.sqrt(p * (1 - p) / draws)
    assert float(jnp.max(jnp.abs(deviation))) < 4.5
    # and in pairs, since a fixed mask rolled about would pass the test above
    both = float(jnp.mean(drawn[:, 0] & drawn[:, 1]))
    expected = kept * (kept - 1) / (n * (n - 1))
    assert abs(both - expected) < 4.5 * np.sqrt(expected / draws)
