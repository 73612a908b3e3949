"""Sorting along an axis."""

import numpy as np
import pytest
from jax import lax

from wormjax.structure._trace import trace
from wormjax.structure.rules import PROPAGATE


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


A, B, X = normal(4, 8), normal(4, 8)[::-1], normal(5, 4)

SORTS = {
    "sort": lambda a, b, axis: lax.sort(a, dimension=axis),
    "keys and values": lambda a, b, axis: lax.sort((a, b), dimension=axis)[1],
    "two keys": lambda a, b, axis: lax.sort((lax.floor(a), b), dimension=axis, num_keys=2)[1],
    "top k": lambda a, b, axis: lax.top_k(a, 3, axis=axis)[0],
    "positions of the top k": lambda a, b, axis: lax.top_k(a, 3, axis=axis)[1],
    "approximate top k": lambda a, b, axis: lax.approx_max_k(a, 3, reduction_dimension=axis)[0],
}


def network(sort, axis):
    def apply(p, x):
        return lax.reduce_sum(sort(lax.cos(x @ p["a"]), x @ p["b"], axis), (1,))

    return apply


@pytest.mark.parametrize("sort", SORTS.values(), ids=list(SORTS))
def test_the_other_axes_pass(check_function, sort):
    checked = check_function(network(sort, 0), {"a": A, "b": B}, X)
    assert checked.free >= 1
    first, second = checked.traced.params
    assert not checked.traced.dims.reasons(first[1])
    tied = sort in (SORTS["keys and values"], SORTS["two keys"])
    assert checked.traced.dims.same(first[1], second[1]) == tied


@pytest.mark.parametrize("sort", SORTS.values(), ids=list(SORTS))
def test_the_sorted_axis_stays_whole(sort):
    traced = trace(network(sort, 1), {"a": A, "b": B}, (X,), None, PROPAGATE)
    [reason] = traced.dims.reasons(traced.params[0][1])
    assert "sorted along this axis" in reason.why
    assert reason.source.startswith("test_sort.py:")
