"""SynFlow against path sums in NumPy float64, and the range that float32 is made to cover."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from wormjax import scores


def relu_net(params, x):
    """A plain network: kernels in a list, biases where there are any."""
    for layer in params:
        x = jax.nn.relu(x @ layer["kernel"])
        if "bias" in layer:
            x = x + layer["bias"][None]
    return x


def as_params(kernels):
    return [{"kernel": jnp.asarray(k, jnp.float32)} for k in kernels]


def path_sums(kernels):
    """R and the scores of a plain network, in float64: forward sums times backward sums."""
    kernels = [np.abs(np.asarray(k, np.float64)) for k in kernels]
    forward = [np.ones(kernels[0].shape[0])]
    for k in kernels:
        forward.append(forward[-1] @ k)
    backward = [np.ones(kernels[-1].shape[1])]
    for k in reversed(kernels):
        backward.append(k @ backward[-1])
    backward.reverse()
    tables = [
        k * np.outer(f, b) for k, f, b in zip(kernels, forward[:-1], backward[1:], strict=True)
    ]
    return forward[-1].sum(), tables


def test_hand_mlp_oracle():  # specs, foresight 6.1
    params = as_params([[[1, 2], [-1, 1]], [[1, -1], [2, 0.5]]])
    tree = scores.synflow(params, jnp.zeros((5, 2)), apply=relu_net)
    assert tree[0]["kernel"].tolist() == [[2, 5], [2, 2.5]]
    assert tree[1]["kernel"].tolist() == [[2, 2], [6, 1.5]]


def test_random_mlp_oracle():  # specs, foresight 6.2: sizes 4-5-6-3
    rng = np.random.default_rng(0)
    sizes = (4, 5, 6, 3)
    kernels = [rng.normal(size=s) * np.sqrt(2 / s[0]) for s in itertools.pairwise(sizes)]
    assert abs(kernels[0][0, 0] - 0.0889046919) < 1e-10  # the guard of the specification
    total, expected = path_sums(kernels)
    tree = scores.synflow(as_params(kernels), jnp.zeros((7, 4)), apply=relu_net)
    for layer, table in zip(tree, expected, strict=True):
        np.testing.assert_allclose(layer["kernel"], table, rtol=1e-5)
        np.testing.assert_allclose(layer["kernel"].sum(), total, rtol=1e-5)  # conservation


@settings(max_examples=6, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=5),
    st.integers(0, 2**32 - 1),
    st.integers(-60, 60),
)
def test_plain_networks_of_any_size(sizes, seed, exponent):
    rng = np.random.default_rng(seed)
    kernels = [
        rng.uniform(0.1, 1, size=s) * rng.choice([-1, 1], size=s) for s in itertools.pairwise(sizes)
    ]
    kernels[0] *= 2.0**exponent
    _, expected = path_sums(kernels)
    tree = scores.synflow(as_params(kernels), jnp.zeros((1, sizes[0])), apply=relu_net)
    for layer, table in zip(tree, expected, strict=True):
        np.testing.assert_allclose(layer["kernel"], table, rtol=1e-5)


def quotients(tree, tables):
    """Scores over expected scores, one number where they agree up to a factor."""
    pairs = zip(tree, tables, strict=True)
    return np.ravel([np.asarray(layer["kernel"], np.float64) / table for layer, table in pairs])


def deep(depth, gain, width=4):
    rng = np.random.default_rng(1)
    return [rng.uniform(0.5, 1.5, size=(width, width)) * gain / width for _ in range(depth)]


@pytest.mark.parametrize("log2_flow", [-110, -40, 40, 110, 126, 140, 200, 225])
def test_scores_are_right_far_outside_of_float32(log2_flow):
    kernels = deep(10, 2.0 ** (log2_flow / 10))
    total, expected = path_sums(kernels)
    assert abs(np.log2(total) - log2_flow) < 6
    tree = scores.synflow(as_params(kernels), jnp.zeros((1, 4)), apply=relu_net)
    ratios = quotients(tree, expected)
    # one factor for all: 1 where ones pass through, a power of two beyond
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-5)
    factor = ratios[0]
    if log2_flow <= 110:
        assert abs(factor - 1) < 1e-5
    assert abs(np.log2(factor) - np.round(np.log2(factor))) < 1e-4


def test_the_rescaled_ranking_is_bit_for_bit_that_of_a_smaller_network():
    kernels = deep(8, 1.0)
    small = scores.synflow(as_params(kernels), jnp.zeros((1, 4)), apply=relu_net)
    large = scores.synflow(
        as_params([k * 2.0**25 for k in kernels]), jnp.zeros((1, 4)), apply=relu_net
    )
    ratios = quotients(small, [np.asarray(layer["kernel"], np.float64) for layer in large])
    assert np.unique(ratios).size == 1


def residual_net(params, x):
    for layer in params:
        x = x + jax.nn.relu(x @ layer["in"]) @ layer["out"]
    return x


@pytest.mark.parametrize("gain", [1.0, 40.0])
def test_residual_networks(gain):
    """Rescaling the input keeps branch and shortcut in proportion; rescaling layers would not."""
    rng = np.random.default_rng(2)
    blocks = [{k: rng.uniform(0.2, 1, (3, 3)) * gain for k in ("in", "out")} for _ in range(12)]
    forward = [np.ones(3)]
    for b in blocks:
        forward.append(forward[-1] + forward[-1] @ b["in"] @ b["out"])
    backward = [np.ones(3)]
    for b in reversed(blocks):
        backward.insert(0, backward[0] + b["in"] @ b["out"] @ backward[0])
    assert (forward[-1].sum() > 3.5e38) == (gain == 40.0)
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), blocks)
    tree = scores.synflow(params, jnp.zeros((1, 3)), apply=residual_net)
    ratios = []
    for b, s, f, g in zip(blocks, tree, forward, backward[1:], strict=False):
        ratios.append(np.asarray(s["in"], np.float64) / (b["in"] * np.outer(f, b["out"] @ g)))
        ratios.append(np.asarray(s["out"], np.float64) / (b["out"] * np.outer(f @ b["in"], g)))
    np.testing.assert_allclose(ratios, ratios[0][0, 0], rtol=1e-5)


def test_range_also_under_jit():
    kernels = deep(10, 2.0**20)
    compiled = jax.jit(lambda p: scores.synflow(p, jnp.zeros((1, 4)), apply=relu_net))
    _, expected = path_sums(kernels)
    tree = compiled(as_params(kernels))
    ratios = quotients(tree, expected)
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-5)


def test_biases_are_zero_by_default_and_absolute_on_request():
    params = [
        {"kernel": jnp.full((2, 2), -0.5), "bias": jnp.array([-3.0, 1.0])},
        {"kernel": jnp.full((2, 1), 2.0), "bias": jnp.array([7.0])},
    ]
    default = scores.synflow(params, jnp.zeros((1, 2)), apply=relu_net)
    bare = [{"kernel": layer["kernel"]} for layer in params]
    without = scores.synflow(bare, jnp.zeros((1, 2)), apply=relu_net)
    for a, b in zip(default, without, strict=True):
        np.testing.assert_array_equal(a["kernel"], b["kernel"])
    kept = scores.synflow(
        params,
        jnp.zeros((1, 2)),
        apply=relu_net,
        biases=lambda p: jax.tree.map(lambda _: False, p),
    )
    assert default[1]["kernel"].tolist() == [[2.0], [2.0]]  # hidden (1, 1)
    assert kept[1]["kernel"].tolist() == [[8.0], [4.0]]  # hidden (1 + 3, 1 + 1)


@pytest.mark.parametrize(
    "name", ["b", "bias", "beta", "offset", "shift", "mean", "running_mean", "moving_mean"]
)
def test_what_counts_as_a_shift(name):
    def apply(p, x):
        return (x @ p["v"] + p[name][None]) @ p["w"]

    params = {"v": jnp.ones((2, 1)), "w": jnp.ones((1, 1)), name: jnp.ones(1)}
    tree = scores.synflow(params, jnp.zeros((1, 2)), apply=apply)
    assert tree["w"].tolist() == [[2.0]]


def test_a_ranked_leaf_is_a_weight_whatever_its_name():
    params = {"b": jnp.full((2, 1), -3.0), "bias": jnp.array([-5.0])}
    tree = scores.synflow(
        params,
        jnp.zeros((1, 2)),
        apply=lambda p, x: x @ p["b"] + p["bias"][None],
        prunable={"b": True, "bias": True},
    )
    assert tree["b"].tolist() == [[3.0], [3.0]]
    assert tree["bias"].tolist() == [5.0]


class ConvNet(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.norm(self.conv(x))), (2, 2), (2, 2))
        return self.head(x.mean(axis=(1, 2)))


def test_batch_norm_in_evaluation_mode():
    """The scale enters as |gamma| / sigma, the running mean as it is, and statistics stay."""
    # foresight's defect 19: the absolute value of the running mean, too
    model = nnx.jit(lambda: ConvNet(nnx.Rngs(0)))()
    model.norm.scale[...] = jnp.array([1.0, -2.0, 0.5, 1.0])
    model.norm.mean[...] = jnp.array([0.0, 0.0, -1.0, 0.25])
    model.norm.var[...] = jnp.array([1.0, 4.0, 1.0, 0.25])
    graphdef, params, state = nnx.split(model, nnx.Param, ...)
    before = jax.tree.map(np.array, state)

    def apply(p, x):
        return nnx.merge(graphdef, p, state)(x)

    tree = scores.synflow(params, jnp.zeros((3, 2, 2, 1)), apply=apply)
    kernel, head = (np.abs(np.asarray(m.kernel[...], np.float64)) for m in (model.conv, model.head))
    # a 2x2 image of ones: the taps that each of the four positions sees, then normalise and pool
    taps = [kernel[1 - i : 3 - i, 1 - j : 3 - j, 0].sum((0, 1)) for i in (0, 1) for j in (0, 1)]
    normal = (np.array(taps) - [0, 0, -1, 0.25]) * [1, 2, 0.5, 1]
    normal /= np.sqrt(np.array([1, 4, 1, 0.25]) + 1e-5)
    hidden = np.maximum(normal, 0).max(0)
    np.testing.assert_allclose(tree.head.kernel[...], head * hidden[:, None], rtol=1e-4)
    assert tree.norm.scale[...].ndim == 0
    assert tree.conv.bias[...].ndim == 0
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.array, state))


def test_negative_scales_count_by_size():
    def apply(p, x):
        return (x @ p["kernel"]) * p["scale"][None]

    params = {"kernel": jnp.ones((2, 2)), "scale": jnp.array([-3.0, 2.0])}
    tree = scores.synflow(params, jnp.zeros((1, 2)), apply=apply)
    assert tree["kernel"].tolist() == [[3.0, 2.0], [3.0, 2.0]]


def test_only_shape_and_dtype_of_the_batch_matter():
    params = as_params(deep(2, 1.0))
    one = scores.synflow(params, jnp.full((9, 4), jnp.nan), apply=relu_net)
    two = scores.synflow(params, jax.ShapeDtypeStruct((1, 4), jnp.float32), apply=relu_net)
    jax.tree.map(np.testing.assert_array_equal, one, two)
    seen = []

    def spy(p, x):
        seen.append((jax.tree.map(jnp.shape, x), x["a"].dtype))
        return relu_net(p, x["a"].astype(jnp.float32))

    scores.synflow(params, {"a": jnp.zeros((5, 4), jnp.bfloat16)}, apply=spy)
    assert set(map(str, seen)) == {str(({"a": (1, 4)}, jnp.dtype(jnp.bfloat16)))}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision(dtype):
    kernels = deep(3, 1.0)
    params = jax.tree.map(lambda x: x.astype(dtype), as_params(kernels))
    tree = scores.synflow(params, jnp.zeros((1, 4), dtype), apply=relu_net)
    for layer, table in zip(tree, path_sums(kernels)[1], strict=True):
        assert layer["kernel"].dtype == jnp.float32
        np.testing.assert_allclose(layer["kernel"], table, rtol=0.1)


def test_half_precision_has_its_remedy_too():
    kernels = deep(6, 8.0)  # R = 2^20, beyond float16
    params = jax.tree.map(lambda x: x.astype(jnp.float16), as_params(kernels))
    tree = scores.synflow(params, jnp.zeros((1, 4), jnp.float16), apply=relu_net)
    tables = path_sums(kernels)[1]
    ratios = quotients(tree, tables)
    np.testing.assert_allclose(ratios, ratios[0], rtol=0.1)


def test_float64_reaches_further():
    with jax.enable_x64(True):
        kernels = deep(10, 2.0**40)
        params = [{"kernel": jnp.asarray(k)} for k in kernels]
        tree = scores.synflow(params, jnp.zeros((1, 4)), apply=relu_net)
        for layer, table in zip(tree, path_sums(kernels)[1], strict=True):
            assert layer["kernel"].dtype == jnp.float64
            np.testing.assert_allclose(layer["kernel"], table, rtol=1e-12)


def test_a_network_that_overflows_whatever_the_input():
    with pytest.raises(ValueError, match="overflows even for a very small input"):
        scores.synflow(as_params(deep(10, 2.0**30)), jnp.zeros((1, 4)), apply=relu_net)


def test_an_overflow_that_a_smaller_input_would_falsify():
    def shifted(params, x):  # as with a running mean: not proportional to its input
        return relu_net(params, x + 1.0)

    params = as_params(deep(10, 2.0**13.1))
    with pytest.raises(ValueError, match="not proportional to its input"):
        scores.synflow(params, jnp.zeros((1, 4)), apply=lambda p, x: relu_net(p, x) + 2.0**100)
    # where nothing overflows the definition needs no proportion
    tree = scores.synflow(as_params(deep(2, 1.0)), jnp.zeros((1, 4)), apply=shifted)
    plain = scores.synflow(as_params(deep(2, 1.0)), jnp.zeros((1, 4)), apply=relu_net)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, 2 * b, rtol=1e-6), tree, plain)


def test_a_network_without_a_path():
    params = as_params([np.ones((4, 4)), np.zeros((4, 2))])
    with pytest.raises(ValueError, match=r"R is 0.*head"):
        scores.synflow(params, jnp.zeros((1, 4)), apply=relu_net)


@pytest.mark.parametrize(
    ("kernels", "shift"),
    [(deep(10, 2.0**30), 0.0), ([np.zeros((4, 4))], 0.0), (deep(10, 2.0**13.1), 2.0**100)],
)
def test_under_jit_what_would_raise_is_nan(kernels, shift):
    def apply(p, x):
        return relu_net(p, x) + shift

    compiled = jax.jit(lambda p: scores.synflow(p, jnp.zeros((1, 4)), apply=apply))
    for s in jax.tree.leaves(compiled(as_params(kernels))):
        assert np.all(np.isnan(s))


def test_a_part_without_weights_never_calls_apply():
    part = {"kernel": optax.MaskedNode(), "bias": jnp.ones(2)}
    tree = scores.synflow(part, jnp.zeros((1, 2)), apply=lambda p, x: pytest.fail("called"))
    assert tree["bias"].ndim == 0


def test_batches_that_cannot_be_ones():
    params = as_params(deep(1, 1.0))
    with pytest.raises(ValueError, match=r"batch\['tokens'\] has dtype int32.*embeddings"):
        scores.synflow(params, {"tokens": jnp.zeros((2, 4), jnp.int32)}, apply=relu_net)
    with pytest.raises(ValueError, match="batch is a scalar"):
        scores.synflow(params, jnp.zeros(()), apply=relu_net)
    with pytest.raises(ValueError, match="holds no array"):
        scores.synflow(params, {}, apply=relu_net)


def test_apply_must_return_one_array():
    def view(p, x):
        return relu_net(p, x), {}

    with pytest.raises(ValueError, match=r"apply returned a tuple.*\[0\]"):
        scores.synflow(as_params(deep(1, 1.0)), jnp.zeros((1, 4)), apply=view)
