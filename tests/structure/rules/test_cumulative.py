"""Scans along an axis."""

import numpy as np
import pytest
from jax import lax

from wormjax.structure._trace import trace
from wormjax.structure.rules import PROPAGATE


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


A, X = normal(4, 8), normal(5, 4)
SCANS = [lax.cumsum, lax.cumprod, lax.cummax, lax.cummin, lax.cumlogsumexp]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("scan", SCANS)
def test_the_other_axes_pass(check_function, scan, reverse):
    def apply(p, x):
        return lax.reduce_sum(lax.sin(scan(lax.cos(x @ p), axis=0, reverse=reverse)), (1,))

    assert check_function(apply, A, X).free == 1


@pytest.mark.parametrize("scan", SCANS)
def test_the_scanned_axis_stays_whole(scan):
    traced = trace(lambda p, x: lax.reduce_sum(scan(x @ p, axis=1), (1,)), A, (X,), None, PROPAGATE)
    [reason] = traced.dims.reasons(traced.params[0][1])
    assert "accumulate" in reason.why
    assert reason.primitive.startswith("cum")
    assert reason.source.startswith("test_cumulative.py:")
