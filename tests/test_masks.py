import dataclasses
import inspect
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.core import FrozenDict
from hypothesis import given, settings
from hypothesis import strategies as st

import wormjax as wj
from wormjax._masks import check_masks

KERNEL = np.array(
    [[0.5, -3.0, 0.25, 4.0], [-0.125, 6.0, -7.0, 0.75], [9.0, -0.375, 11.0, -12.0]], np.float32
)
SCALE = np.array([1.0, -2.0, 5.0, 0.0625], np.float32)


class Layer(NamedTuple):
    kernel: jax.Array
    scale: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Block:
    kernel: jax.Array
    scale: jax.Array


class NnxLayer(nnx.Module):
    def __init__(self):
        self.kernel = nnx.Param(jnp.asarray(KERNEL))
        self.scale = nnx.Param(jnp.asarray(SCALE))


class EqxLayer(eqx.Module):
    kernel: jax.Array
    scale: jax.Array
    activation: Any = jax.nn.relu
    width: int = 4

    def __call__(self, x):
        return self.activation(x @ self.kernel) * self.scale[None]


def _containers() -> dict[str, Any]:
    kernel, scale = jnp.asarray(KERNEL), jnp.asarray(SCALE)
    return {
        "dict": {"kernel": kernel, "scale": scale},
        "list": [kernel, scale],
        "tuple": (kernel, scale),
        "namedtuple": Layer(kernel, scale),
        "dataclass": Block(kernel, scale),
        "nested": {"a": [Layer(kernel, scale)], "b": ()},
        "frozendict": FrozenDict({"layer": {"kernel": kernel, "scale": scale}}),
        "nnx": nnx.state(NnxLayer(), nnx.Param),
        "equinox": eqx.filter(EqxLayer(kernel, scale), eqx.is_array),
        "masked_node": {"hidden": optax.MaskedNode(), "kernel": kernel, "scale": scale},
    }


CONTAINERS = [
    "dict",
    "list",
    "tuple",
    "namedtuple",
    "dataclass",
    "nested",
    "frozendict",
    "nnx",
    "equinox",
    "masked_node",
]


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_is_masked_counted_and_packed(name):
    params = _containers()[name]
    assert [x.shape for x in jax.tree.leaves(params)] == [(3, 4), (4,)]
    scores = jax.tree.map(jnp.abs, params)

    masks = wj.top_masks(scores, density=0.5)

    flat = np.abs(np.concatenate([KERNEL.ravel(), SCALE]))
    expected = flat >= np.sort(flat)[8]
    assert jax.tree.structure(masks) == jax.tree.structure(params)
    got = np.concatenate([np.ravel(m) for m in jax.tree.leaves(masks)])
    np.testing.assert_array_equal(got, expected)

    pruned = wj.apply_masks(params, masks)
    assert jax.tree.structure(pruned) == jax.tree.structure(params)
    np.testing.assert_array_equal(
        np.concatenate([np.ravel(p) for p in jax.tree.leaves(pruned)]),
        np.where(expected, np.concatenate([KERNEL.ravel(), SCALE]), 0),
    )
    assert float(wj.density(masks, params)) == 0.5
    back = wj.unpack(wj.pack(masks))
    assert jax.tree.structure(back) == jax.tree.structure(masks)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(masks), strict=True):
        np.testing.assert_array_equal(a, b)
    complement = jax.tree.map(jnp.logical_not, masks)
    assert float(wj.mask_distance(masks, complement)) == 1.0
    overlap = wj.jaccard(masks, masks)
    assert float(overlap.total) == 1.0
    assert jax.tree.structure(overlap.leaves) == jax.tree.structure(params)


def test_a_masked_equinox_module_still_runs():
    module = EqxLayer(jnp.asarray(KERNEL), jnp.asarray(SCALE))
    params, static = eqx.partition(module, eqx.is_array)
    masks = wj.top_masks(jax.tree.map(jnp.abs, params), density="7/16")
    masked = eqx.combine(wj.apply_masks(params, masks), static)
    x = np.array([[1.0, -0.5, 2.0], [0.25, 1.0, 0.0]], np.float32)
    kernel, scale = np.where(np.abs(KERNEL) >= 4, KERNEL, 0), np.where(SCALE >= 5, SCALE, 0)
    expected = np.maximum(x @ kernel, 0) * scale
    assert np.count_nonzero(expected) == 1
    np.testing.assert_allclose(masked(jnp.asarray(x)), expected, rtol=1e-6)


def test_a_masked_nnx_state_goes_back_into_its_module():
    model = NnxLayer()
    params = nnx.state(model, nnx.Param)
    masks = wj.top_masks(jax.tree.map(jnp.abs, params), density=0.25)
    nnx.update(model, wj.apply_masks(params, masks))
    np.testing.assert_array_equal(model.kernel[...], np.where(np.abs(KERNEL) >= 7, KERNEL, 0))
    np.testing.assert_array_equal(model.scale[...], np.zeros(4))


# apply_masks


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.int8, jnp.complex64])
def test_apply_keeps_shape_and_dtype(dtype):
    w = jnp.arange(1, 7).astype(dtype).reshape(2, 3)
    out = wj.apply_masks({"w": w}, {"w": jnp.array([[True, False, True]])})["w"]
    assert out.dtype == dtype
    assert out.shape == (2, 3)
    np.testing.assert_array_equal(np.asarray(out, np.complex64), [[1, 0, 3], [4, 0, 6]])


def test_apply_selects_and_does_not_multiply():
    bad = np.array([np.inf, -np.inf, np.nan, -1.0], np.float32)
    out = np.asarray(wj.apply_masks({"w": jnp.asarray(bad)}, {"w": jnp.zeros(4, bool)})["w"])
    # the bits, so that -0.0 does not pass for 0.0
    np.testing.assert_array_equal(out.view(np.uint32), np.zeros(4, np.uint32))


def test_apply_leaves_kept_entries_bit_for_bit():
    bits = np.array([0x80000000, 0x00000001, 0x7F800000, 0x7FC00123, 0xFF7FFFFF], np.uint32)
    kept = wj.apply_masks({"w": jnp.asarray(bits.view(np.float32))}, {"w": jnp.ones(5, bool)})["w"]
    np.testing.assert_array_equal(np.asarray(kept).view(np.uint32), bits)


def test_apply_takes_numpy_arrays_without_a_warning():
    out = wj.apply_masks({"w": np.ones(2)}, {"w": np.array([True, False])})["w"]
    np.testing.assert_array_equal(out, [1.0, 0.0])


def test_gradients_are_zero_where_pruned_and_untouched_where_kept():
    w = jnp.array([2.0, jnp.inf, jnp.nan, -3.0])
    masks = {"w": jnp.array([True, False, False, True])}

    def loss(params):
        return jnp.sum(wj.apply_masks(params, masks)["w"] ** 2)

    value, gradient = jax.jit(jax.value_and_grad(loss))({"w": w})
    assert float(value) == 13.0
    np.testing.assert_array_equal(gradient["w"], [4.0, 0.0, 0.0, -6.0])


def test_never_pruned_leaves_pass_whatever_they_hold():
    params = {"step": 3, "key": jax.random.key(0), "bias": jnp.ones(2), "empty": jnp.zeros((0, 2))}
    masks = {name: jnp.array(True) for name in params}
    out = wj.apply_masks(params, masks)
    assert all(out[name] is params[name] for name in params)


def test_a_stack_of_masks_is_used_under_vmap():
    masks = {"w": jnp.array([[True, False], [False, True], [False, False]])}
    out = jax.vmap(wj.apply_masks, in_axes=(None, 0))({"w": jnp.array([2.0, 3.0])}, masks)["w"]
    np.testing.assert_array_equal(out, [[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]])


# structure and shape errors


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"a": {"w": "mask"}}, r"leaf 'b' is missing. Build masks from the same tree as params"),
        ({"a": {"w": "mask"}, "b": "mask", "c": "mask"}, "leaf 'c' is not in params"),
        ({"a": ["mask"], "b": "mask"}, "leaf 'a/w' is missing"),
    ],
)
def test_another_structure_is_refused_by_path(masks, message):
    params = {"a": {"w": jnp.ones((2, 3))}, "b": jnp.ones(2)}
    masks = jax.tree.map(lambda _: jnp.array(True), masks)
    for call in (wj.apply_masks, lambda p, m: wj.density(m, p), check_masks):
        with pytest.raises(ValueError, match=message):
            call(params, masks)


def test_other_containers_of_the_same_names_are_told_apart():
    params = Layer(jnp.ones(2), jnp.ones(2))
    masks = {"kernel": jnp.ones(2, bool), "scale": jnp.ones(2, bool)}
    with pytest.raises(ValueError, match="same leaf names but other containers"):
        wj.apply_masks(params, masks)


@pytest.mark.parametrize(
    ("shape", "mask_shape"),
    [((3, 4), (3, 5)), ((3, 4), (4,)), ((3, 4), (1, 3, 4)), ((3, 1), (3, 4)), ((), (1,))],
)
def test_a_mask_that_does_not_broadcast_at_equal_rank_is_refused(shape, mask_shape):
    params, masks = {"conv": {"w": jnp.ones(shape)}}, {"conv": {"w": jnp.ones(mask_shape, bool)}}
    with pytest.raises(ValueError, match=r"mask at 'conv/w' has shape .* does not broadcast"):
        wj.apply_masks(params, masks)
    with pytest.raises(ValueError, match=r"mask at 'conv/w' has shape .* does not broadcast"):
        wj.count_kept(masks, params)


@pytest.mark.parametrize("shape", [(3, 4), (1, 4), (3, 1), (1, 1), ()])
def test_masks_that_broadcast_are_applied_as_numpy_does(shape):
    mask = np.random.default_rng(len(shape)).random(shape) < 0.5 if shape else np.array(True)
    out = wj.apply_masks({"w": jnp.asarray(KERNEL)}, {"w": jnp.asarray(mask)})["w"]
    np.testing.assert_array_equal(out, np.where(mask, KERNEL, 0))


def test_masks_that_are_not_bool_are_refused():
    floats, ints, python = {"w": jnp.ones(2)}, {"w": jnp.ones(2, jnp.int32)}, {"w": True}
    good = {"w": jnp.ones(2, bool)}
    with pytest.raises(ValueError, match="mask at 'w' holds float32, not bool"):
        wj.apply_masks({"w": jnp.ones(2)}, floats)
    with pytest.raises(ValueError, match="mask at 'w' holds int32, not bool"):
        wj.jaccard(good, ints, over="pruned")  # ~1 is -2: it would count nonsense
    with pytest.raises(ValueError, match="mask at 'w' holds int32, not bool"):
        wj.mask_distance(ints, good)
    with pytest.raises(ValueError, match="mask at 'w' is of type bool, not a bool array"):
        wj.apply_masks({"w": jnp.ones(2)}, python)


# counts and density


def test_a_channel_mask_counts_the_entries_that_it_covers():
    params = {"conv": jnp.ones((3, 3, 2, 4)), "bias": jnp.ones(4), "scale": jnp.ones(4)}
    masks = {
        "conv": jnp.array([True, False, False, True]).reshape(1, 1, 1, 4),
        "bias": jnp.array(True),  # never pruned: in neither count
        "scale": jnp.array([False, False, False, True]),
    }
    kept, total = wj.count_kept(masks, params)
    assert (int(kept), total) == (3 * 3 * 2 * 2 + 1, 72 + 4)
    assert kept.dtype == jnp.int32
    assert float(wj.density(masks, params)) == pytest.approx(37 / 76, rel=1e-7)


def test_counts_are_exact_beyond_float32_integers():
    n = 2**24 + 3  # float32 cannot tell 2^24 + 1 from 2^24
    mask = jnp.ones(n, bool).at[7].set(False)
    kept, total = wj.count_kept({"w": mask}, {"w": jax.ShapeDtypeStruct((n,), jnp.float32)})
    assert (int(kept), total) == (n - 1, n)
    # a small mask over a large parameter: shapes alone are read
    rows = 2**23 + 1
    channels, shapes = jnp.array([[True, False, True]]), jax.ShapeDtypeStruct((rows, 3), jnp.int8)
    kept, total = wj.count_kept({"w": channels}, {"w": shapes})
    assert (int(kept), total) == (2 * rows, 3 * rows)


def test_counts_beyond_32_bits_are_refused_and_the_last_that_fits_is_not():
    def tree(*sizes):
        return {str(i): jax.ShapeDtypeStruct((n,), bool) for i, n in enumerate(sizes)}

    fits, over = tree(2**30, 2**30 - 1), tree(2**30, 2**30)
    assert jax.eval_shape(wj.mask_distance, fits, fits).shape == ()
    for call in (wj.mask_distance, wj.jaccard, wj.density):
        with pytest.raises(ValueError, match=r"2,147,483,648 .* more than 32-bit counts hold"):
            jax.eval_shape(call, over, over)


def test_a_tree_without_prunable_leaves_has_neither_density_nor_distance():
    masks, params = {"b": jnp.array(True)}, {"b": jnp.ones(3)}
    with pytest.raises(ValueError, match=r"no prunable leaf .* no density"):
        wj.density(masks, params)
    with pytest.raises(ValueError, match=r"no prunable leaf .* no distance"):
        wj.mask_distance(masks, masks)


# distance and overlap

SHAPES = {"a": (4, 3), "b": (5,), "c": (1, 2, 1)}
TOTAL = 19


def _tree(bits: int) -> dict[str, jax.Array]:
    """Lay the low 19 bits of an integer out over three leaves; a fourth is never pruned."""
    flat = np.array([(bits >> i) & 1 for i in range(TOTAL)], bool)
    return {
        "a": jnp.asarray(flat[:12].reshape(4, 3)),
        "b": jnp.asarray(flat[12:17]),
        "c": jnp.asarray(flat[17:].reshape(1, 2, 1)),
        "never": jnp.array(True),
    }


bit_masks = st.integers(0, 2**TOTAL - 1)
distance = jax.jit(wj.mask_distance)


@settings(max_examples=60, deadline=None)
@given(bit_masks, bit_masks, bit_masks)
def test_o_d1_mask_distance_is_a_metric(x, y, z):
    a, b, c = _tree(x), _tree(y), _tree(z)
    ab = round(float(distance(a, b)) * TOTAL)
    assert ab == (x ^ y).bit_count()
    assert ab == round(float(distance(b, a)) * TOTAL)
    assert (ab == 0) == (x == y)
    bc, ac = (round(float(distance(p, q)) * TOTAL) for p, q in ((b, c), (a, c)))
    assert ac <= ab + bc
    assert float(distance(a, a)) == 0.0
    assert float(distance(a, _tree(~x))) == 1.0


def test_o_d1_distance_from_the_empty_mask_is_the_kept_fraction():
    kept = _tree(0b111_0000_0001)
    assert float(distance(_tree(0), kept)) == pytest.approx(4 / TOTAL, rel=1e-7)


def test_distance_of_masks_of_other_shapes_is_refused():
    a, b = {"x": {"w": jnp.ones((2, 3), bool)}}, {"x": {"w": jnp.ones((3, 2), bool)}}
    for call in (wj.mask_distance, wj.jaccard):
        with pytest.raises(ValueError, match=r"masks at 'x/w' have different shapes"):
            call(a, b)
        with pytest.raises(ValueError, match=r"masks at 'x/w' have different shapes"):
            call(a, {"x": {"w": jnp.array(True)}})
        with pytest.raises(ValueError, match="leaf 'x/w' is missing"):
            call(a, {"x": {"v": jnp.ones((2, 3), bool)}})


@settings(max_examples=40, deadline=None)
@given(bit_masks, bit_masks, st.sampled_from(["kept", "pruned"]))
def test_jaccard_is_that_of_the_index_sets(x, y, over):
    got = JACCARD[over](_tree(x), _tree(y))
    flip = 0 if over == "kept" else 2**TOTAL - 1
    x, y = x ^ flip, y ^ flip

    def index(start, stop):
        a = {i for i in range(start, stop) if (x >> i) & 1}
        b = {i for i in range(start, stop) if (y >> i) & 1}
        return len(a & b) / len(a | b) if a | b else 1.0

    assert float(got.total) == pytest.approx(index(0, TOTAL), rel=1e-6)
    for name, bounds in {"a": (0, 12), "b": (12, 17), "c": (17, 19)}.items():
        assert float(got.leaves[name]) == pytest.approx(index(*bounds), rel=1e-6)
    assert np.isnan(got.leaves["never"])


JACCARD = {
    over: jax.jit(lambda a, b, over=over: wj.jaccard(a, b, over=over))
    for over in ("kept", "pruned")
}


def test_two_empty_sets_agree():
    full, empty = _tree(2**TOTAL - 1), _tree(0)
    assert float(wj.jaccard(empty, empty, over="kept").total) == 1.0
    assert float(wj.jaccard(full, full, over="pruned").total) == 1.0
    assert float(wj.jaccard(full, empty, over="kept").total) == 0.0


def test_jaccard_knows_two_words():
    masks = {"w": jnp.ones(2, bool)}
    with pytest.raises(ValueError, match="over must be 'kept' or 'pruned', got 'both'"):
        inspect.unwrap(wj.jaccard)(masks, masks, over="both")  # else the annotation refuses first
