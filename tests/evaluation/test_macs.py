"""Multiply-accumulates against hand counts, a brute-force count, XLA's and the papers'."""

import functools
import itertools

import jax
import jax.numpy as jnp
import pytest

from experiments.models import abstract, named
from wormjax.evaluation import macs


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def convolution(**settings):
    return functools.partial(
        jax.lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"), **settings
    )


CONVOLUTIONS = {
    "same": ({"window_strides": (1, 1), "padding": "SAME"}, (3, 3, 4, 6)),
    "strided": ({"window_strides": (2, 3), "padding": "SAME"}, (3, 2, 4, 6)),
    "valid": ({"window_strides": (1, 2), "padding": "VALID"}, (2, 3, 4, 3)),
    "uneven padding": ({"window_strides": (2, 1), "padding": ((1, 2), (0, 3))}, (3, 3, 4, 6)),
    "cropped": ({"window_strides": (1, 1), "padding": ((-1, 0), (2, -1))}, (3, 3, 4, 6)),
    "dilated": (
        {"window_strides": (1, 1), "padding": ((2, 2), (1, 0)), "rhs_dilation": (2, 1)},
        (3, 3, 4, 2),
    ),
    "transposed": (
        {"window_strides": (1, 1), "padding": ((2, 1), (1, 1)), "lhs_dilation": (2, 3)},
        (3, 3, 4, 2),
    ),
    "grouped": (
        {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 2},
        (3, 3, 2, 6),
    ),
    "depthwise": (
        {"window_strides": (2, 2), "padding": "SAME", "feature_group_count": 4},
        (3, 3, 1, 8),
    ),
    "batch groups": (
        {"window_strides": (1, 1), "padding": "SAME", "batch_group_count": 2},
        (3, 3, 4, 6),
    ),
}
IMAGES = (2, 5, 4, 4)


def brute_force(settings, kernel, *, count_padding):
    """Visit every (output, tap, input channel) and ask what the tap meets."""
    out = jax.eval_shape(convolution(**settings), shape(*IMAGES), shape(*kernel)).shape
    strides, padding = settings["window_strides"], settings["padding"]
    dilate = settings.get("lhs_dilation", (1, 1))
    spread = settings.get("rhs_dilation", (1, 1))
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(IMAGES[1:3], kernel[:2], strides, padding)
    count = 0
    for _n, y, x, _o in itertools.product(*map(range, out)):
        for ky, kx, _i in itertools.product(*map(range, kernel[:3])):
            met = []
            for axis, (position, tap) in enumerate(((y, ky), (x, kx))):
                place = position * strides[axis] + tap * spread[axis] - padding[axis][0]
                extent = (IMAGES[1 + axis] - 1) * dilate[axis] + 1
                inside = 0 <= place < extent
                hole = place % dilate[axis] != 0
                met.append(not hole and (inside or count_padding))
            count += all(met)
    return count


@pytest.mark.parametrize("count_padding", [True, False])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_against_brute_force(name, count_padding):
    settings, kernel = CONVOLUTIONS[name]
    counted = macs(
        convolution(**settings), shape(*IMAGES), shape(*kernel), count_padding=count_padding
    )
    assert counted == brute_force(settings, kernel, count_padding=count_padding) > 0


@pytest.mark.parametrize("name", [name for name in CONVOLUTIONS if name != "cropped"])
def test_convolutions_against_xla(name):
    """XLA counts two operations for each multiplication that is not with padding or a hole."""
    settings, kernel = CONVOLUTIONS[name]
    fn = convolution(**settings)
    flops = jax.jit(fn).lower(shape(*IMAGES), shape(*kernel)).cost_analysis()["flops"]
    assert 2 * macs(fn, shape(*IMAGES), shape(*kernel), count_padding=False) == flops


def test_other_convolution_layouts():
    nchw = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NCHW", "OIHW", "NCHW"),
    )
    assert macs(nchw, shape(2, 4, 7, 5), shape(6, 4, 3, 3)) == 2 * 7 * 5 * 6 * 4 * 9
    one_d = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(1,),
        padding="VALID",
        dimension_numbers=("NWC", "WIO", "NWC"),
    )
    assert macs(one_d, shape(2, 10, 3), shape(4, 3, 5)) == 2 * 7 * 5 * 3 * 4


@pytest.mark.parametrize(
    ("equation", "sizes", "expected"),
    [
        ("ij,jk->ik", [(2, 3), (3, 5)], 2 * 3 * 5),
        ("ji,kj->ik", [(3, 2), (5, 3)], 2 * 3 * 5),
        ("bij,bjk->bik", [(7, 2, 3), (7, 3, 5)], 7 * 2 * 3 * 5),
        ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)], 2 * 3 * 4 * 6 * 5),
        ("ijk,jkl->il", [(2, 3, 4), (3, 4, 5)], 2 * 3 * 4 * 5),
        ("i,j->ij", [(4,), (5,)], 4 * 5),
        ("ij,j->i", [(4, 0), (0,)], 0),
    ],
)
def test_dot_products_by_hand(equation, sizes, expected):
    assert (
        macs(functools.partial(jnp.einsum, equation), *(shape(*size) for size in sizes)) == expected
    )


def test_nesting_multiplies():
    def layers(weights, x):
        body = jax.checkpoint(lambda c, w: (jax.nn.gelu(c @ w), None))
        return jax.lax.scan(body, x, weights)[0]

    assert macs(jax.jit(layers), shape(6, 8, 8), shape(4, 8)) == 6 * 4 * 8 * 8
    mapped = jax.vmap(layers, in_axes=(None, 0))
    assert macs(mapped, shape(6, 8, 8), shape(3, 4, 8)) == 3 * 6 * 4 * 8 * 8

    def either(x, w):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ w @ w, lambda: x @ w)

    assert macs(either, shape(4, 8), shape(8, 8)) == 2 * 4 * 8 * 8


def test_training_costs_three_forward_passes_less_the_first_input_gradient():
    first, second = shape(3, 3, 4, 6), shape(3, 3, 6, 8)

    def loss(weights, x):
        x = convolution(window_strides=(1, 1), padding="SAME")(x, weights[0])
        x = convolution(window_strides=(2, 2), padding="SAME")(jax.nn.relu(x), weights[1])
        return jnp.sum(x**2)

    images = shape(2, 8, 8, 4)
    forward = macs(loss, (first, second), images)
    stem = 2 * 8 * 8 * 6 * 4 * 9
    assert forward == stem + 2 * 4 * 4 * 8 * 6 * 9
    assert macs(jax.grad(loss), (first, second), images) == 3 * forward - stem


def test_counts_are_exact_integers():
    big = 3**20 + 2
    counted = macs(jnp.matmul, shape(big, 1), shape(1, big))
    assert type(counted) is int
    assert counted == big**2


def test_a_while_loop_needs_its_trips():
    def power(x):
        return jax.lax.while_loop(lambda c: jnp.sum(c) < 9, lambda c: c @ c, x)

    with pytest.raises(ValueError, match="give while_trips"):
        macs(power, shape(4, 4))
    assert macs(power, shape(4, 4), while_trips=5) == 5 * 64


def test_an_operation_that_hides_its_work_is_an_error():
    def ragged(x, w, sizes):
        return jax.lax.ragged_dot(x, w, sizes)

    sizes = jax.ShapeDtypeStruct((2,), jnp.int32)
    with pytest.raises(ValueError, match=r"'ragged_dot_general' at .*test_macs\.py.*by hand"):
        macs(ragged, shape(4, 3), shape(2, 3, 5), sizes)


def of_model(name, size, **changes):
    config = named(name, **changes)
    view = abstract(config)
    images = shape(1, size, size, config.channels)
    return macs(lambda *a: view.apply(*a)[0], view.params, view.state, images)


def test_vgg16_is_the_spec_s_oracle():
    """O-F1: 2 k k C_in C_out H W over all convolutions is 626393088, the linear layer 2 * 512 * 100."""
    assert 2 * of_model("vgg16", 32, classes=100) == 626_393_088 + 2 * 512 * 100


def test_resnet20_by_hand():
    stem, stage = 32 * 32 * 27 * 16, 32 * 32 * 9 * 16 * 16
    later = stage // 2 + 5 * stage  # half the channels and a quarter of the map come in
    assert of_model("resnet20", 32) == stem + 6 * stage + 2 * later + 64 * 10
