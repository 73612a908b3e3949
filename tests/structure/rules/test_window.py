"""Pooling windows."""

import jax
import numpy as np
import pytest
from jax import lax

from wormjax.structure._trace import trace
from wormjax.structure.rules import PROPAGATE


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


KERNEL, IMAGE = normal(3, 3, 2, 6), normal(2, 8, 8, 2)


def features(p, x):
    return lax.conv_general_dilated(
        x, p, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def pool(x, start, f, window, **how):
    return lax.reduce_window(
        x, np.float32(start), f, window, **{"window_strides": window, "padding": "SAME", **how}
    )


POOLS = {
    "sum": lambda x, w: pool(x, 0, lax.add, w),
    "max": lambda x, w: pool(x, -np.inf, lax.max, w),
    "min": lambda x, w: pool(x, np.inf, lax.min, w),
    "sum, overlapping": lambda x, w: pool(x, 0, lax.add, w, window_strides=(1, 1, 1, 1)),
    "max, dilated": lambda x, w: pool(
        lax.stop_gradient(x), -np.inf, lax.max, w, window_dilation=(1, 2, 1, 1)
    ),
    "sum, stretched": lambda x, w: pool(x, 0, lax.add, w, base_dilation=(1, 2, 1, 1)),
    "a function": lambda x, w: pool(lax.stop_gradient(x), 0, lambda a, b: lax.max(a, b) + 0.0, w),
    "backward of max": lambda x, w: jax.grad(
        lambda x: lax.reduce_sum(lax.sin(POOLS["max"](x, w)), (0, 1, 2, 3))
    )(lax.stop_gradient(x)),
    "forward of max": lambda x, w: jax.jvp(lambda x: POOLS["max"](x, w), (x,), (lax.sin(x),))[1],
}


@pytest.mark.parametrize("name", POOLS)
def test_channels_pass(check_function, name):
    def apply(p, x):
        return lax.reduce_sum(POOLS[name](lax.cos(features(p, x)), (1, 2, 2, 1)), (3,))

    assert check_function(apply, KERNEL, IMAGE).free == 1


WHOLE = {
    "window": lambda x: pool(x, 0, lax.add, (1, 1, 1, 2)),
    "stride": lambda x: pool(x, 0, lax.add, (1, 1, 1, 1), window_strides=(1, 1, 1, 2)),
    "padding": lambda x: pool(
        x, 0, lax.add, (1, 1, 1, 1), padding=((0, 0), (0, 0), (0, 0), (1, 0))
    ),
    "dilation": lambda x: pool(x, 0, lax.add, (1, 1, 1, 1), base_dilation=(1, 1, 1, 2)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_channels_in_a_window_stay_whole(name):
    def apply(p, x):
        return lax.reduce_sum(WHOLE[name](features(p, x)), (3,))

    traced = trace(apply, KERNEL, (IMAGE,), None, PROPAGATE)
    [reason] = traced.dims.reasons(traced.params[0][3])
    assert reason.why == "a window slides along this axis"
    assert reason.primitive == "reduce_window_sum"
    assert reason.source.startswith("test_window.py:")
