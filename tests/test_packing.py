import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wormjax as wj


def _random(shape, seed=0):
    return np.random.default_rng(seed).random(shape) < 0.5


def _bits_by_numpy(mask: np.ndarray, axis: int) -> np.ndarray:
    return np.packbits(mask, axis=axis, bitorder="little")


# few shapes, so that few programs are compiled: sizes 0, 1, around a byte, several bytes
LENGTHS = st.sampled_from([0, 1, 3, 8, 17])


@settings(max_examples=20, deadline=None)
@given(st.lists(LENGTHS, min_size=1, max_size=3), st.data())
def test_pack_then_unpack_is_the_identity_at_one_bit_an_entry(shape, data):
    shape = tuple(shape)
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    mask = _random(shape, seed=data.draw(st.integers(0, 3)))

    packed = wj.pack({"m": jnp.asarray(mask)}, axis)["m"]

    assert isinstance(packed, wj.PackedMask)
    assert packed.bits.dtype == jnp.uint8
    if axis is not None:
        assert packed.axis == axis % len(shape)
    assert packed.length == shape[packed.axis]
    others = math.prod(shape[: packed.axis] + shape[packed.axis + 1 :])
    assert packed.bits.size == others * math.ceil(packed.length / 8)
    np.testing.assert_array_equal(packed.bits, _bits_by_numpy(mask, packed.axis))
    np.testing.assert_array_equal(wj.unpack({"m": packed})["m"], mask)


@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (0, 0), (2, 0, 3)])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_axes_of_size_zero_round_trip(shape, axis):
    mask = jnp.zeros(shape, bool)
    back = wj.unpack(wj.pack([mask], axis))[0]
    assert back.shape == shape
    assert back.dtype == jnp.bool_


@pytest.mark.parametrize(
    ("shape", "nbytes"), [((20,), 3), ((64,), 8), ((5, 16), 10), ((16, 5), 10), ((9, 7, 3), 27)]
)
def test_the_axis_that_wastes_fewest_bits_is_chosen(shape, nbytes):
    assert wj.pack([jnp.ones(shape, bool)])[0].bits.nbytes == nbytes


def test_every_byte_value_survives():
    mask = np.unpackbits(np.arange(256, dtype=np.uint8), bitorder="little").astype(bool)
    packed = wj.pack([jnp.asarray(mask)])
    np.testing.assert_array_equal(packed[0].bits, np.arange(256))
    np.testing.assert_array_equal(wj.unpack(packed)[0], mask)


def test_padding_bits_are_zero():
    assert int(wj.pack([jnp.ones(9, bool)])[0].bits[1]) == 1


def test_leaves_of_rank_zero_stay_as_they_are():
    masks = {"never": jnp.array(True), "w": jnp.array([True, False])}
    packed = wj.pack(masks)
    assert packed["never"] is masks["never"]
    assert wj.unpack(packed)["never"] is masks["never"]


def test_packing_works_under_jit_vmap_and_scan():
    stack = _random((4, 3, 10))
    packed = jax.vmap(lambda m: wj.pack({"w": m}))(jnp.asarray(stack))
    assert packed["w"].bits.shape[0] == 4
    np.testing.assert_array_equal(jax.vmap(wj.unpack)(packed)["w"], stack)

    @jax.jit
    def differing(masks):
        first = wj.pack({"w": masks[0]})

        def step(previous, mask):
            now = wj.pack({"w": mask})
            return now, jnp.sum(wj.unpack(now)["w"] != wj.unpack(previous)["w"])

        return jax.lax.scan(step, first, masks[1:])[1]

    expected = [(stack[i] != stack[i + 1]).sum() for i in range(3)]
    np.testing.assert_array_equal(differing(jnp.asarray(stack)), expected)


def test_packed_trees_of_one_shape_have_one_structure():
    # a window of packed masks is a carry: its tree must not depend on what the masks hold
    a, b = (wj.pack({"w": jnp.asarray(_random((5, 9), seed))}) for seed in (1, 2))
    assert jax.tree.structure(a) == jax.tree.structure(b)


def test_packed_masks_are_a_pytree_of_anything():
    masks = {"w": jnp.ones((3, 20), bool)}
    shapes = jax.eval_shape(wj.pack, masks)
    assert (shapes["w"].bits.shape, shapes["w"].axis, shapes["w"].length) == ((3, 3), 1, 20)
    assert jax.tree.structure(shapes) == jax.tree.structure(wj.pack(masks))
    assert jax.tree.map(lambda x: x.nbytes, wj.pack(masks))["w"].bits == 9


def test_an_axis_that_a_mask_does_not_have_is_refused_by_name():
    with pytest.raises(ValueError, match="mask at 'bn/scale' has rank 1: it has no axis 1"):
        wj.pack({"bn": {"scale": jnp.ones(4, bool)}}, 1)
    with pytest.raises(ValueError, match="mask at 'bn/scale' has rank 1: it has no axis -2"):
        wj.pack({"bn": {"scale": jnp.ones(4, bool)}}, -2)


def test_what_is_not_bool_is_refused_by_name():
    with pytest.raises(ValueError, match="mask at 'bn/scale' holds uint8, not bool"):
        wj.pack({"bn": {"scale": jnp.ones(4, jnp.uint8)}})
    with pytest.raises(ValueError, match="mask at 'bn' is of type bool, not a bool array"):
        wj.pack({"bn": True})
