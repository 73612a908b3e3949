import functools
import math
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import wormjax as wj
from wormjax._selection import largest, ordered_keys

# oracle: NumPy in float64, stable order


def _flat(leaves: list[Any]) -> np.ndarray:
    return np.concatenate([np.asarray(x).astype(np.float64).ravel() for x in leaves])


def _oracle(values: np.ndarray, kept: int, ties: str) -> np.ndarray:
    order = np.argsort(-values, kind="stable")
    mask = np.zeros(values.size, bool)
    if ties == "index":
        mask[order[:kept]] = True
    elif kept:
        mask = values > values[order[kept - 1]]
    return mask


# values: bit patterns, so that every finite float can come, and few of them, so that ties are common

SHAPES = {"float32": (7, 5), "bfloat16": (6,), "float16": (3, 1, 4)}
SIZES = [math.prod(s) for s in SHAPES.values()]
INFINITY = {"float32": 0x7F800000, "bfloat16": 0x7F80, "float16": 0x7C00}
SPECIAL = {  # ±0, smallest and largest subnormal, smallest normal, one and its neighbours, largest
    "float32": [0, 1, 0x7FFFFF, 0x800000, 0x3F7FFFFF, 0x3F800000, 0x3F800001, 0x7F7FFFFF],
    "bfloat16": [0, 1, 0x7F, 0x80, 0x3F7F, 0x3F80, 0x3F81, 0x7F7F],
    "float16": [0, 1, 0x3FF, 0x400, 0x3BFF, 0x3C00, 0x3C01, 0x7BFF],
}


@st.composite
def leaf_values(draw, dtype: str) -> np.ndarray:
    magnitude = st.sampled_from(SPECIAL[dtype]) | st.integers(0, INFINITY[dtype] - 1)
    bits = np.uint32 if dtype == "float32" else np.uint16
    sign = 1 << (np.dtype(bits).itemsize * 8 - 1)
    pool = draw(st.lists(st.tuples(magnitude, st.booleans()), min_size=1, max_size=8))
    patterns = np.array([m | (sign if negative else 0) for m, negative in pool], bits)
    shape = SHAPES[dtype]
    index = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, len(pool) - 1)))
    return patterns[index].view(jnp.dtype(dtype))


mixed_leaves = st.tuples(*(leaf_values(dtype) for dtype in SHAPES))
counts = st.integers(0, sum(SIZES))


@functools.partial(jax.jit, static_argnames="ties")
def global_largest(leaves, kept, ties):
    return largest(leaves, kept, ties)


@functools.partial(jax.jit, static_argnames="ties")
def leaf_largest(leaves, kept, ties):
    return [largest([x], k, ties)[0] for x, k in zip(leaves, kept, strict=True)]


@settings(max_examples=80, deadline=None)
@given(mixed_leaves, counts, st.sampled_from(["index", "strict"]))
def test_global_selection_is_the_stable_order_of_float64(leaves, kept, ties):
    masks = global_largest([jnp.asarray(x) for x in leaves], jnp.int32(kept), ties)
    assert [m.shape for m in masks] == list(SHAPES.values())
    np.testing.assert_array_equal(
        np.concatenate([np.ravel(m) for m in masks]), _oracle(_flat(leaves), kept, ties)
    )


@settings(max_examples=30, deadline=None)
@given(
    mixed_leaves,
    st.tuples(*(st.integers(0, n) for n in SIZES)),
    st.sampled_from(["index", "strict"]),
)
def test_leaf_selection_is_the_stable_order_of_float64(leaves, kept, ties):
    masks = leaf_largest([jnp.asarray(x) for x in leaves], [jnp.int32(k) for k in kept], ties)
    for mask, values, k in zip(masks, leaves, kept, strict=True):
        np.testing.assert_array_equal(np.ravel(mask), _oracle(_flat([values]), k, ties))


@settings(max_examples=30, deadline=None)
@given(mixed_leaves)
def test_keys_compare_as_the_floats_do(leaves):
    keys = np.concatenate([np.ravel(keys_of(jnp.asarray(x))) for x in leaves])
    values = _flat(leaves)
    np.testing.assert_array_equal(
        np.sign(keys[:, None].astype(np.int64) - keys[None].astype(np.int64)),
        np.sign(values[:, None] - values[None])
        if np.isfinite(values[:, None] - values[None]).all()
        else np.where(values[:, None] == values[None], 0, np.sign(values[:, None] - values[None])),
    )


keys_of = jax.jit(ordered_keys)


@settings(max_examples=20, deadline=None)
@given(mixed_leaves, hnp.arrays(np.float64, (5,), elements=st.floats(-1e300, 1e300)), st.data())
def test_float64_leaves_beside_narrower_ones(leaves, doubles, data):
    # under x64 narrower floats are widened, and a backend that flushes subnormals must not lose them
    neighbours = _flat(leaves)[: doubles.size]
    doubles = np.where(np.arange(doubles.size) % 2, doubles, np.nextafter(neighbours, np.inf))
    kept = data.draw(st.integers(0, sum(SIZES) + doubles.size))
    with jax.enable_x64(True):
        leaves = [*(jnp.asarray(x) for x in leaves), jnp.asarray(doubles)]
        assert leaves[-1].dtype == jnp.float64
        masks = global_largest(leaves, jnp.int32(kept), "index")
        got = np.concatenate([np.ravel(m) for m in masks])
    np.testing.assert_array_equal(got, _oracle(_flat(leaves), kept, "index"))


@pytest.mark.parametrize("ties", ["index", "strict"])
@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -3.5, 1e-45, -1e-45, 3.4e38, -3.4e38])
def test_all_equal_scores(value, ties):
    leaves = [jnp.full(shape, value, jnp.float32) for shape in SHAPES.values()]
    for kept in (0, 1, 17, sum(SIZES)):
        masks = global_largest(leaves, jnp.int32(kept), ties)
        expected = np.arange(sum(SIZES)) < (kept if ties == "index" else 0)
        np.testing.assert_array_equal(np.concatenate([np.ravel(m) for m in masks]), expected)


def test_both_zeros_tie():
    scores = {"a": jnp.array([-0.0, 0.0, -0.0, 0.0])}
    np.testing.assert_array_equal(wj.top_masks(scores, density=0.5)["a"], [1, 1, 0, 0])
    np.testing.assert_array_equal(
        wj.top_masks(scores, density=0.5, ties="strict")["a"], [0, 0, 0, 0]
    )


def test_the_index_is_that_of_the_flatten_order():
    # dicts flatten by sorted key, leaves in C order; the tie runs through three leaves
    scores = {"b": jnp.ones((2, 2)), "a": jnp.ones(3), "c": [jnp.ones(2), jnp.full((), jnp.inf)]}
    masks = wj.top_masks(scores, density="6/9")
    np.testing.assert_array_equal(masks["a"], [True, True, True])
    np.testing.assert_array_equal(masks["b"], [[True, True], [True, False]])
    np.testing.assert_array_equal(masks["c"][0], [False, False])
    assert masks["c"][1].shape == ()
    assert bool(masks["c"][1])


# top_masks


@pytest.mark.parametrize(
    ("density", "size", "kept"),
    [
        (0.29, 100, 29),  # int(100 * 0.29) is 28
        (0.57, 100, 57),  # int(100 * 0.57) is 56
        ("0.29", 100, 29),
        ("1/3", 100, 33),
        (Fraction(2, 3), 99, 66),
        (0.999, 100, 99),
        (0.001, 100, 0),
        (1, 100, 100),
        (1.0, 100, 100),
    ],
)
def test_the_count_is_the_floor_of_the_decimal(density, size, kept):
    scores = {"w": jnp.asarray(np.random.default_rng(0).normal(size=size), jnp.float32)}
    mask = wj.top_masks(scores, density=density)["w"]
    np.testing.assert_array_equal(mask, _oracle(_flat([scores["w"]]), kept, "index"))
    assert int(mask.sum()) == kept


def test_leaf_scope_floors_in_every_leaf():
    scores = {"a": jnp.arange(10.0), "b": jnp.arange(7.0) * 100, "c": jnp.ones(3)}
    masks = wj.top_masks(scores, density=0.5, scope="leaf")
    assert {k: int(m.sum()) for k, m in masks.items()} == {"a": 5, "b": 3, "c": 1}
    together = wj.top_masks(scores, density=0.5)
    assert {k: int(m.sum()) for k, m in together.items()} == {"a": 4, "b": 6, "c": 0}


def test_never_pruned_leaves_are_known_by_rank_and_not_counted():
    scores = {
        "w": jnp.array([1.0, 2.0]),
        "a": jnp.array(-5.0),
        "b": np.inf,
        "c": jnp.array(jnp.nan),
    }
    masks = wj.top_masks(scores, density=0.5)
    np.testing.assert_array_equal(masks["w"], [False, True])
    assert [(masks[k].shape, masks[k].dtype, bool(masks[k])) for k in "abc"] == [
        ((), jnp.bool_, True)
    ] * 3


def test_empty_leaves_are_harmless():
    scores = {"a": jnp.zeros((0, 3)), "b": jnp.array([1.0, 3.0, 2.0, 0.0])}
    for scope in ("global", "leaf"):
        masks = wj.top_masks(scores, density=0.5, scope=scope)
        assert masks["a"].shape == (0, 3)
        np.testing.assert_array_equal(masks["b"], [False, True, True, False])


def test_numpy_scores_are_taken():
    masks = wj.top_masks({"w": np.array([3, 1, 2], np.float32)}, density="2/3")
    np.testing.assert_array_equal(masks["w"], [True, False, True])


def test_selection_under_jit_and_vmap_agrees_with_itself_outside():
    scores = np.random.default_rng(1).integers(0, 4, (3, 20)).astype(np.float32)

    def masks_of(x):
        return wj.top_masks({"w": x}, density=0.35)["w"]

    expected = np.stack([_oracle(row.astype(np.float64), 7, "index") for row in scores])
    np.testing.assert_array_equal(jax.jit(masks_of)(jnp.asarray(scores[0])), expected[0])
    np.testing.assert_array_equal(jax.vmap(masks_of)(jnp.asarray(scores)), expected)


def test_gradients_pass_by_masks_made_of_the_weights_themselves():
    def loss(params):
        masks = wj.top_masks(jax.tree.map(jnp.abs, params), density=0.5)
        return jnp.sum(wj.apply_masks(params, masks)["w"] ** 2)

    gradient = jax.jit(jax.grad(loss))({"w": jnp.array([1.0, -3.0, 2.0, 0.5])})["w"]
    np.testing.assert_array_equal(gradient, [0.0, -6.0, 4.0, 0.0])


def test_counts_may_be_traced_and_batched():
    values = jnp.asarray(np.random.default_rng(2).integers(0, 5, 30), jnp.float32)
    by_count = jax.jit(jax.vmap(lambda k: largest([values], k)[0]))(jnp.arange(31))
    for k in range(31):
        np.testing.assert_array_equal(by_count[k], _oracle(_flat([values]), k, "index"))


@pytest.mark.slow
def test_counts_are_exact_beyond_float32_integers():
    n, kept = 2**24 + 3, 2**24 + 1  # both odd: float32 holds neither
    masks = wj.top_masks({"w": jnp.zeros(n, jnp.bfloat16)}, density=Fraction(kept, n))
    mask = np.asarray(masks["w"])
    assert mask[:kept].all()
    assert not mask[kept:].any()


@pytest.mark.parametrize("scope", ["global", "leaf"])
def test_more_entries_than_int32_counts_are_refused(scope):
    def call(*sizes):
        shapes = {str(i): jax.ShapeDtypeStruct((n,), jnp.float32) for i, n in enumerate(sizes)}
        return jax.eval_shape(lambda s: wj.top_masks(s, density=0.5, scope=scope), shapes)

    with pytest.raises(ValueError, match="2,147,483,648 score entries"):
        call(2**31)
    assert call(2**31 - 1)["0"].shape == (2**31 - 1,)
    if scope == "global":
        with pytest.raises(ValueError, match="Use scope='leaf', or split the tree"):
            call(2**30, 2**30)
    else:
        assert call(2**30, 2**30)["1"].dtype == jnp.bool_
