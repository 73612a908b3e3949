"""Convolutions: plain, strided, dilated, transposed, grouped, depthwise."""

import numpy as np
import pytest
from jax import lax

from wormjax.structure._replay import ReplayError
from wormjax.structure._trace import trace
from wormjax.structure.rules import PROPAGATE


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


IMAGE = normal(2, 8, 8, 4)
NHWC = ("NHWC", "HWIO", "NHWC")


def conv(x, kernel, stride=1, padding="SAME", numbers=NHWC, **how):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=numbers, **how
    )


def pixels(x):
    """Mean over the spatial axes, so that the output names channels only."""
    return lax.reduce_sum(x, (1, 2))


HOW = {
    "plain": {},
    "strided": {"stride": 2},
    "valid": {"padding": "VALID"},
    "dilated": {"rhs_dilation": (2, 2)},
    "transposed": {"lhs_dilation": (2, 2), "padding": ((1, 2), (1, 2))},
    "padded unevenly": {"padding": ((3, 0), (0, 1))},
}


@pytest.mark.parametrize("how", HOW.values(), ids=list(HOW))
def test_channels_between_two_convolutions(check_function, how):
    def apply(p, x):
        return pixels(conv(lax.tanh(conv(x, p["a"], **how)), p["b"], **how))

    checked = check_function(apply, {"a": normal(3, 3, 4, 8), "b": normal(3, 3, 8, 2)}, IMAGE)
    assert checked.free == 1
    (first, second), dims = checked.traced.params, checked.traced.dims
    assert dims.same(first[3], second[2])
    assert "spatial axis of a kernel" in dims.reasons(first[0])[0].why
    assert "input" in dims.reasons(first[2])[0].why


LAYOUTS = [("NCHW", "OIHW", "NCHW"), ("NHWC", "OHWI", "NCHW"), ("HWCN", "HWOI", "CNHW")]


@pytest.mark.parametrize("numbers", LAYOUTS, ids=["-".join(n) for n in LAYOUTS])
def test_layouts(check_function, numbers):
    lhs, rhs, out = numbers
    x = np.transpose(IMAGE, ["NHWC".index(letter) for letter in lhs])
    a = np.transpose(normal(3, 3, 4, 8), ["HWIO".index(letter) for letter in rhs])
    b = np.transpose(normal(3, 3, 8, 2), ["HWIO".index(letter) for letter in rhs])

    def apply(p, x):
        hidden = lax.cos(conv(x, p["a"], numbers=numbers))
        return conv(hidden, p["b"], numbers=(out, rhs, out))

    assert check_function(apply, {"a": a, "b": b}, x).free == 1


def test_one_spatial_axis_and_three(check_function):
    def apply(p, x, y):
        line = lax.conv_general_dilated(
            x, p["a"], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        )
        cube = lax.conv_general_dilated(
            y, p["b"], (1, 2, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
        )
        return lax.reduce_sum(line, (1,)) @ p["c"], lax.reduce_sum(cube, (1, 2, 3)) @ p["d"]

    params = {
        "a": normal(3, 4, 8),
        "b": normal(3, 3, 3, 2, 6),
        "c": normal(8, 2),
        "d": normal(6, 2),
    }
    assert check_function(apply, params, normal(2, 8, 4), normal(2, 4, 4, 4, 2)).free == 2


def test_depthwise_ties_its_channels(check_function):
    def apply(p, x):
        hidden = lax.tanh(conv(x, p["in"]))
        hidden = lax.tanh(conv(hidden, p["depth"], feature_group_count=8))
        return pixels(conv(hidden, p["out"]))

    params = {"in": normal(1, 1, 4, 8), "depth": normal(3, 3, 1, 8), "out": normal(1, 1, 8, 2)}
    checked = check_function(apply, params, IMAGE)
    assert checked.free == 1
    (depth, into, out), dims = checked.traced.params, checked.traced.dims
    assert dims.same(into[3], depth[3])
    assert dims.same(depth[3], out[2])


def test_a_depthwise_multiplier_is_a_group_of_its_own(check_function):
    def apply(p, x):
        hidden = lax.tanh(conv(x, p["in"]))
        hidden = lax.tanh(conv(hidden, p["depth"], feature_group_count=8))
        return pixels(conv(hidden, p["out"]))

    params = {"in": normal(1, 1, 4, 8), "depth": normal(3, 3, 1, 24), "out": normal(1, 1, 24, 2)}
    checked = check_function(apply, params, IMAGE)
    assert checked.free == 2  # 8 channels, and the 3 copies of each
    assert sorted(a.size for a in checked.traced.dims.atoms(checked.traced.params[0][3])) == [3, 8]


def test_depthwise_on_joined_channels(check_function):
    def apply(p, x):
        joined = lax.concatenate([lax.tanh(conv(x, p["a"])), lax.tanh(conv(x, p["b"]))], 3)
        return pixels(conv(conv(joined, p["depth"], feature_group_count=8), p["out"]))

    params = {"a": normal(1, 1, 4, 3), "b": normal(1, 1, 4, 5), "depth": normal(3, 3, 1, 8)}
    checked = check_function(apply, {**params, "out": normal(1, 1, 8, 2)}, IMAGE)
    assert checked.free == 2
    assert [a.size for a in checked.traced.dims.atoms(checked.traced.params[2][3])] == [3, 5]


def test_groups_on_joined_channels_that_fit(check_function):
    def apply(p, x):
        joined = lax.concatenate([lax.tanh(conv(x, p["a"])), lax.tanh(conv(x, p["b"]))], 3)
        return pixels(conv(joined, p["c"], feature_group_count=2))

    params = {"a": normal(1, 1, 4, 4), "b": normal(1, 1, 4, 4), "c": normal(1, 1, 4, 6)}
    checked = check_function(apply, params, IMAGE)
    assert checked.free == 1  # the same of the 4 in both; the model's output keeps the groups
    first, second, _ = checked.traced.params
    assert checked.traced.dims.same(first[3], second[3])


@pytest.mark.parametrize("ratio", [0.4, 0.8])
def test_groups(check_function, ratio):
    def apply(p, x):
        hidden = lax.tanh(conv(x, p["in"]))
        hidden = lax.tanh(conv(hidden, p["mid"], feature_group_count=3))
        return pixels(conv(hidden, p["out"]))

    params = {"in": normal(1, 1, 4, 12), "mid": normal(3, 3, 4, 15), "out": normal(1, 1, 15, 2)}
    checked = check_function(apply, params, IMAGE, ratio=ratio)
    assert checked.free == 3  # the 3 groups, 4 inputs and 5 outputs of each
    dims, (into, mid, _) = checked.traced.dims, checked.traced.params
    assert [a.size for a in dims.atoms(into[3])] == [3, 4]
    assert [a.size for a in dims.atoms(mid[3])] == [3, 5]
    assert dims.same(dims.atoms(into[3])[1], mid[2])


def test_groups_of_the_model_input_stay_whole(check_function):
    def apply(p, x):
        return pixels(conv(lax.tanh(conv(x, p["a"], feature_group_count=2)), p["b"]))

    checked = check_function(apply, {"a": normal(3, 3, 2, 6), "b": normal(1, 1, 6, 2)}, IMAGE)
    assert checked.free == 1  # the 3 outputs of both groups
    two, three = checked.traced.dims.atoms(checked.traced.params[0][3])
    assert (two.size, three.size) == (2, 3)
    assert "input" in checked.traced.dims.reasons(two)[0].why


def test_groups_that_do_not_fit_a_structure_stay_whole():
    def apply(p, x):
        joined = lax.concatenate(
            [conv(x, p["a"]), conv(x, p["b"])], 3
        )  # 3 + 5 channels, in groups of 4
        return pixels(conv(joined, p["c"], feature_group_count=2))

    params = {"a": normal(1, 1, 4, 3), "b": normal(1, 1, 4, 5), "c": normal(1, 1, 4, 6)}
    traced = trace(apply, params, (IMAGE,), None, PROPAGATE)
    for axes in traced.params[:2]:
        assert traced.dims.reasons(axes[3]), axes


PAIRS = {  # what the removed channels of the input and of the kernel hold
    "number, zero": (lax.cos, lambda k: k),
    "zero, number": (lambda x: x, lax.cos),
    "number, number": (lax.cos, lax.exp),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=list(PAIRS))
def test_removed_channels_that_are_summed(check_function, pair):
    of_input, of_kernel = pair

    def apply(p, x):
        return pixels(conv(of_input(conv(x, p["a"])), of_kernel(p["b"])))

    assert (
        check_function(apply, {"a": normal(3, 3, 4, 8), "b": normal(3, 3, 8, 2)}, IMAGE).free == 1
    )


RESULTS = {  # (kernel, groups) of a convolution whose removed outputs are asked for
    "zero kernel": (lambda k: k, (3, 3, 8, 6), 1),
    "number in the kernel": (lax.exp, (3, 3, 8, 6), 1),
    "depthwise": (lambda k: k, (3, 3, 1, 8), 8),
    "depthwise, number": (lax.exp, (3, 3, 1, 8), 8),
    "groups": (lambda k: k, (3, 3, 2, 8), 4),
}


@pytest.mark.parametrize("name", RESULTS)
def test_what_removed_outputs_hold(check_function, name):
    of_kernel, shape, groups = RESULTS[name]

    def apply(p, x):
        hidden = conv(conv(x, p["a"]), of_kernel(p["b"]), feature_group_count=groups)
        return lax.reduce_sum(lax.cos(0.01 * hidden), (3,))

    free = {1: 2, 8: 1, 4: 3}[groups]
    assert check_function(apply, {"a": normal(3, 3, 4, 8), "b": normal(*shape)}, IMAGE).free == free


def test_a_pointwise_convolution_passes_the_spatial_axes(check_function):
    def apply(p, x):  # rows mixed by a matrix: 6 new rows
        mixed = lax.dot_general(p["rows"], x, (((0,), (1,)), ((), ())))  # (6, 2, 8, 4)
        hidden = lax.tanh(conv(mixed, p["a"], numbers=("HNWC", "HWIO", "HNWC")))
        return lax.dot_general(hidden, p["back"], (((0, 3), (0, 1)), ((), ())))

    params = {"rows": normal(8, 6), "a": normal(1, 1, 4, 5), "back": normal(6, 5, 2)}
    checked = check_function(apply, params, IMAGE)
    assert checked.free == 2


def test_groups_of_the_batch_stay_whole():
    def apply(p, x):
        return lax.conv_general_dilated(
            x, p, (1, 1), "SAME", dimension_numbers=NHWC, batch_group_count=2
        )

    traced = trace(apply, normal(3, 3, 4, 6), (IMAGE,), None, PROPAGATE)
    assert any("groups of the batch" in r.why for r in traced.dims.reasons(traced.params[0][3]))


def test_unknown_removed_channels_are_an_error(check_function):
    def apply(p, state, x):
        return pixels(conv(conv(x, p["a"]) + state, lax.exp(p["b"]))), state

    params = {"a": normal(3, 3, 4, 8), "b": normal(3, 3, 8, 2)}
    with pytest.raises(
        ReplayError, match=r"conv_general_dilated at test_conv.py:\d+: it sums over"
    ):
        check_function(apply, params, IMAGE, state=normal(1, 1, 1, 8))
