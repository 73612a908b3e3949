import contextlib
import functools
import math
import re
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
from wormjax._selection import largest, ordered_keys, select

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


@settings(max_examples=150, deadline=None)
@given(mixed_leaves, counts, st.sampled_from(["index", "strict"]))
def test_global_selection_is_the_stable_order_of_float64(leaves, kept, ties):
    masks = global_largest([jnp.asarray(x) for x in leaves], jnp.int32(kept), ties)
    assert [m.shape for m in masks] == list(SHAPES.values())
    np.testing.assert_array_equal(
        np.concatenate([np.ravel(m) for m in masks]), _oracle(_flat(leaves), kept, ties)
    )


@settings(max_examples=60, deadline=None)
@given(
    mixed_leaves,
    st.tuples(*(st.integers(0, n) for n in SIZES)),
    st.sampled_from(["index", "strict"]),
)
def test_leaf_selection_is_the_stable_order_of_float64(leaves, kept, ties):
    masks = leaf_largest([jnp.asarray(x) for x in leaves], [jnp.int32(k) for k in kept], ties)
    for mask, values, k in zip(masks, leaves, kept, strict=True):
        np.testing.assert_array_equal(np.ravel(mask), _oracle(_flat([values]), k, ties))


@settings(max_examples=60, deadline=None)
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


@settings(max_examples=40, deadline=None)
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


# the spec's oracles. The reference keeps what exceeds the value at ascending position int(N * p): in
# our terms, ties="strict" with N - int(N * p) kept.


def _reference_pruned(scores, p: float) -> int:
    n = sum(x.size for x in scores)
    masks = global_largest(scores, jnp.int32(n - int(n * p)), "strict")
    return n - sum(int(m.sum()) for m in masks)


def _distinct(widths: list[int]) -> list[jax.Array]:
    values = np.random.default_rng(0).permutation(sum(widths)).astype(np.float32)
    return [jnp.asarray(v) for v in np.split(values, np.cumsum(widths)[:-1])]


VGG16 = [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
VGG11 = [64, 128, 256, 256, 512, 512, 512, 512]
RESNET18 = [64] * 5 + [128] * 5 + [256] * 5 + [512] * 5
PRERESNET101 = [
    width
    for planes, entry in ((16, 16), (32, 64), (64, 128))
    for block in range(11)
    for width in (entry if block == 0 else 4 * planes, planes, planes)
] + [256]


@pytest.mark.parametrize(
    ("widths", "layers", "total"),
    [(VGG16, 13, 4224), (VGG11, 8, 2752), (RESNET18, 20, 4800), (PRERESNET101, 100, 7408)],
)
def test_o_m1_entries_of_the_papers_networks(widths, layers, total):
    params = [jnp.ones(w) for w in widths]
    masks = [jnp.ones(w, bool) for w in widths]
    assert len(masks) == layers
    kept, n = wj.count_kept(masks, params)
    assert (int(kept), n) == (total, total)


@pytest.mark.parametrize(
    ("widths", "pruned"),
    [
        (
            VGG16,
            {0.1: 423, 0.2: 845, 0.3: 1268, 0.4: 1690, 0.5: 2113, 0.6: 2535, 0.7: 2957, 0.8: 3380},
        ),
        (VGG11, {0.5: 1377}),
        (RESNET18, {0.1: 481, 0.3: 1441, 0.5: 2401}),
        (PRERESNET101, {0.3: 2223, 0.5: 3705, 0.7: 5186}),
    ],
    ids=["vgg16", "vgg11", "resnet18", "preresnet101"],
)
def test_o_m2_reference_rule_prunes_one_more_than_k(widths, pruned):
    # one leaf: the counts are of the whole tree, and thirteen leaves only compile longer
    scores = [jnp.concatenate(_distinct(widths))]
    assert {p: _reference_pruned(scores, p) for p in pruned} == pruned


def test_o_m1_o_m2_bert_query_and_key():
    # 12 layers of 768 x 768 queries and keys; bit patterns in order are distinct floats in order
    n = 12 * 2 * 768 * 768
    assert n == 14_155_776
    scores = [jnp.asarray(np.arange(1, n + 1, dtype=np.uint32).view(np.float32))]
    assert _reference_pruned(scores, 0.5) == 7_077_889


@pytest.mark.parametrize(("p", "pruned"), [(0.1, 3), (0.2, 3), (0.3, 4), (0.5, 6)])
def test_o_m3_reference_rule_prunes_all_of_a_tie(p, pruned):
    scores = [jnp.array([0.1, 0.2, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])]
    assert _reference_pruned(scores, p) == pruned
    masks = wj.top_masks(scores, density=1 - Fraction(str(p)), ties="strict")
    assert 10 - int(masks[0].sum()) == pruned


@pytest.mark.parametrize("p", [0.3, 0.5, 0.7])
def test_o_m4_equal_scales_give_the_empty_mask(p):
    assert _reference_pruned([jnp.full(64, 0.5), jnp.full(32, 0.5)], p) == 96


@pytest.mark.parametrize("scores", ["ties", "equal", "distinct"])
def test_o_m5_exact_rule_prunes_exactly_k(scores):
    values = {
        "ties": np.random.default_rng(0).integers(0, 3, 200),
        "equal": np.ones(200),
        "distinct": np.random.default_rng(0).permutation(200),
    }[scores]
    leaf = jnp.asarray(values, jnp.float32)
    for p in (0.1, 0.29, 0.5):
        mask = wj.top_masks([leaf], density=1 - Fraction(str(p)))[0]
        assert 200 - int(mask.sum()) == Fraction(str(p)) * 200


# wrong input


@pytest.mark.parametrize("density", [0, 0.0, -0.5, 1.0001, 50, "3/2"])
def test_density_outside_is_refused(density):
    with pytest.raises(ValueError, match=r"density must lie in \(0, 1\], got .* fraction .* kept"):
        wj.top_masks({"w": jnp.ones(4)}, density=density)


def test_unknown_words_are_refused():
    call: Any = _unchecked(wj.top_masks)
    with pytest.raises(ValueError, match="scope must be one of 'global', 'leaf', got 'layer'"):
        call({"w": jnp.ones(4)}, density=0.5, scope="layer")
    with pytest.raises(ValueError, match="ties must be one of 'index', 'strict', got 'random'"):
        call({"w": jnp.ones(4)}, density=0.5, ties="random")


def _unchecked(function):
    """The function behind the annotation checks that only tests install."""
    return getattr(function, "__wrapped__", function)


def test_scores_without_a_ranked_leaf_are_refused():
    for scores in ({"a": jnp.array(jnp.inf)}, {}):
        with pytest.raises(ValueError, match=r"no leaf to prune.*Widen the rule"):
            wj.top_masks(scores, density=0.5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_with_the_path(bad, dtype):
    scores = {"conv": [jnp.ones(3), jnp.ones((2, 2), dtype).at[1, 0].set(bad)], "z": jnp.inf}
    for scope in ("global", "leaf"):
        with pytest.raises(ValueError, match=r"score at 'conv/1' holds NaN or infinity"):
            wj.top_masks(scores, density=0.5, scope=scope)


def test_under_jit_nan_passes_for_the_caller_to_flag():
    mask = jax.jit(lambda x: wj.top_masks([x], density=0.5)[0])(jnp.array([jnp.nan, 1.0]))
    assert int(mask.sum()) == 1


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bool_, jnp.complex64])
def test_scores_that_are_not_floats_are_refused_with_the_path(dtype):
    with pytest.raises(ValueError, match=r"score at 'conv/w' has dtype \w+; scores are floats"):
        wj.top_masks({"conv": {"w": jnp.ones(3, dtype)}}, density=0.5)


# compilation


@contextlib.contextmanager
def _compilations():
    log: list[str] = []

    def listen(event: str, *args: Any, **kwargs: Any) -> None:
        if event.endswith("backend_compile_duration"):
            log.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield log
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_new_values_do_not_recompile():
    def scores(seed):
        values = np.random.default_rng(seed).integers(0, 9, 77).astype(np.float32)
        return {"a": jnp.asarray(values[:44].reshape(4, 11)), "b": jnp.asarray(values[44:])}

    with _compilations() as log:
        first = wj.top_masks(scores(0), density=0.37)
    assert log, "the listener hears nothing: this test would pass whatever happened"
    with _compilations() as log:
        masks = [wj.top_masks(scores(seed), density=0.37) for seed in (1, 2)]
        same_count = wj.top_masks(scores(3), density="0.3701")
    assert not log
    for tree in (first, *masks, same_count):
        assert sum(int(m.sum()) for m in tree.values()) == 28


def test_a_traced_count_does_not_recompile():
    leaves = [jnp.arange(13.0), jnp.ones(4)]
    global_largest(leaves, jnp.int32(3), "index")
    with _compilations() as log:
        masks = global_largest(leaves, jnp.int32(9), "index")
    assert not log
    assert sum(int(m.sum()) for m in masks) == 9


@pytest.mark.parametrize("ties", ["index", "strict"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_no_program_sorts_or_stores_keys_or_indices(dtype, ties):
    shape = (512, 256)
    compiled = select.lower([jnp.zeros(shape, dtype)], (1000,), "global", ties).compile()
    operations = set(re.findall(r" ([a-z-]+)\(", compiled.as_text()))
    assert "while" in operations
    assert not operations & {"sort", "concatenate", "custom-call", "gather", "scatter"}
    # a few counts; a stored key or index would be four bytes an entry, a stored bit a byte
    assert compiled.memory_analysis().temp_size_in_bytes < math.prod(shape) / 16
