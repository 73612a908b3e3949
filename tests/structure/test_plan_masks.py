"""Plans from masks: unions, what masks do not speak of, rounding, residual streams; and balanced groups."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wormjax.structure import find_groups, plan
from wormjax.structure._streams import streams

WIDTH, HIDDEN = 6, 4


def residual(params, x):
    """Two layers into one stream of 6, through 4 hidden units."""
    x = x @ params["in"] + params["in_bias"]
    y = jnp.tanh(x @ params["up"] + params["up_bias"])
    x = x + (y @ params["down"] + params["down_bias"])
    return x @ params["out"]


PARAMS = {
    "in": jnp.ones((3, WIDTH)),
    "in_bias": jnp.ones((1, WIDTH)),
    "up": jnp.ones((WIDTH, HIDDEN)),
    "up_bias": jnp.ones((1, HIDDEN)),
    "down": jnp.ones((HIDDEN, WIDTH)),
    "down_bias": jnp.ones((1, WIDTH)),
    "out": jnp.ones((WIDTH, 2)),
}
GROUPS = find_groups(residual, PARAMS, jnp.ones((2, 3)))
STREAM, INNER = "down:1", "down:0"


def masks_of(**given):
    """Masks on some leaves, as strings of 0 and 1; the rest is never pruned."""
    masks = {name: jnp.array(True) for name in PARAMS}
    for name, bits in given.items():
        masks[name] = jnp.array([[bit == "1" for bit in bits]])
    return masks


def bits(kept):
    return "".join("01"[int(k)] for k in kept)


def test_the_groups_are_what_these_tests_think():
    assert {g.name: g.size for g in GROUPS} == {STREAM: WIDTH, INNER: HIDDEN}


def test_a_stream_keeps_the_union_of_its_producers():
    made = plan(GROUPS, masks=masks_of(in_bias="110000", down_bias="011000"))
    assert bits(made.kept[STREAM]) == "111000"
    assert bits(made.kept[INNER]) == "1111"  # nobody speaks of it


def test_masks_are_remembered():
    masks = masks_of(up_bias="1010")
    assert plan(GROUPS, masks=masks).given is masks


def test_a_weight_pruned_entry_by_entry_speaks_of_whole_slices():
    masks = masks_of()
    masks["up"] = jnp.array(np.arange(WIDTH * HIDDEN).reshape(WIDTH, HIDDEN) % HIDDEN != 0)
    made = plan(GROUPS, masks=masks)
    assert bits(made.kept[INNER]) == "0111"
    assert bits(made.kept[STREAM]) == "111111"


def test_a_leaf_that_is_pruned_whole_speaks():
    masks = masks_of(up_bias="0011")
    masks["up"] = jnp.zeros((1, 1), bool)
    assert bits(plan(GROUPS, masks=masks).kept[INNER]) == "0011"


def test_an_empty_layer_keeps_its_first_unit():
    assert bits(plan(GROUPS, masks=masks_of(up_bias="0000")).kept[INNER]) == "1000"


def test_rounding_brings_back_the_first_units_or_the_best():
    masks = masks_of(in_bias="000001", down_bias="000000")
    assert bits(plan(GROUPS, masks=masks, round_to=3).kept[STREAM]) == "110001"
    scores = jax.tree.map(lambda _: jnp.zeros(()), PARAMS)
    scores["in_bias"] = jnp.array([[1.0, 5.0, 2.0, 9.0, 3.0, 0.0]])
    made = plan(GROUPS, scores, masks=masks, round_to=3)
    assert bits(made.kept[STREAM]) == "010101"


def test_a_residual_stream_may_be_left_whole():
    masks = masks_of(in_bias="110000", down_bias="110000", up_bias="1000")
    made = plan(GROUPS, masks=masks, residual="whole")
    assert (bits(made.kept[STREAM]), bits(made.kept[INNER])) == ("111111", "1000")
    scores = jax.tree.map(lambda p: p[:1] if len(p) == 1 else jnp.zeros(()), PARAMS)
    made = plan(GROUPS, scores, keep=0.5, residual="whole")
    assert list(made.widths.values()) == [2, WIDTH] or made.widths == {STREAM: WIDTH, INNER: 2}


def test_an_excluded_group_ignores_its_masks():
    masks = masks_of(in_bias="110000", down_bias="110000", up_bias="1000")
    assert bits(plan(GROUPS, masks=masks, exclude="^out$").kept[STREAM]) == "111111"


def gelu(x):
    return 0.5 * x * (1 + jnp.tanh(0.8 * (x + 0.04 * x**3)))


def chain(p, x):
    h = gelu(x @ p["a"] + p["bias"])
    return (h * p["bias"] + p["bias"]) @ p["b"]


def glu(p, x):
    return (gelu(x @ p["a"]) * (x @ p["c"])) @ p["b"]


def branches(p, x):
    return (jnp.tanh(x @ p["a"]) + jnp.tanh(x @ p["c"])) @ p["b"]


def scanned(p, x):
    def step(h, w):
        return h + jnp.tanh(h @ w), None

    h, _ = jax.lax.scan(step, x @ p["a"], p["layers"])
    return h @ p["b"]


@pytest.mark.parametrize(
    ("apply", "is_stream"), [(chain, False), (glu, False), (branches, True), (scanned, True)]
)
def test_what_is_a_stream(apply, is_stream):
    """A sum of different layers' work is one; an activation, a gate and a bias are not."""
    params = {
        "a": jnp.ones((3, 8)),
        "b": jnp.ones((8, 2)),
        "c": jnp.ones((3, 8)),
        "bias": jnp.ones((1, 8)),
        "layers": jnp.ones((2, 8, 8)),
    }
    groups = find_groups(apply, params, jnp.ones((4, 3)))
    [group] = [g for g in groups if any(s.path == "b" for s in g.slices)]
    assert (group.atom in streams(groups.traced)) == is_stream


def grouped(params, x):
    """A grouped convolution between two pointwise ones: 2 groups of 3 channels into 2 groups of 2."""

    def conv(x, kernel, groups=1):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=groups
        )

    x = jnp.tanh(conv(x, params["a"]))
    x = jnp.tanh(conv(x, params["b"], groups=2))
    return conv(x, params["c"])


def test_groups_of_a_convolution_stay_balanced():
    """A unit of a grouped convolution is the same channel in every group, so groups keep equal widths."""
    params = {
        "a": jnp.ones((1, 1, 3, 6)),
        "b": jnp.ones((3, 3, 3, 4)),
        "c": jnp.ones((1, 1, 4, 2)),
    }
    groups = find_groups(grouped, params, jnp.ones((1, 5, 5, 3)))
    assert sorted(g.size for g in groups) == [2, 2, 3]  # groups, channels out and in of each group
    rng = np.random.default_rng(0)
    scores = jax.tree.map(lambda p: jnp.asarray(rng.random(p.shape), jnp.float32), params)
    made = plan(groups, scores, keep=0.6, aggregate="mean")
    assert sum(made.widths.values()) == 5
    kept = jax.tree.map(lambda m, p: np.broadcast_to(m, p.shape), made.masks, params)
    inputs = kept["a"].any(axis=(0, 1, 2)).reshape(2, 3)
    assert len({row.tobytes() for row in inputs if row.any()}) == 1
    outputs = kept["b"].any(axis=(0, 1, 2)).reshape(2, 2)
    assert len({row.tobytes() for row in outputs if row.any()}) == 1
    np.testing.assert_array_equal(inputs.any(1), outputs.any(1))
