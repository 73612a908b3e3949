"""Multiply-accumulates by leaf, against hand counts, and together against those of the whole call."""

import jax
import jax.numpy as jnp
import pytest

from experiments.models import abstract, named
from wormjax.evaluation import LeafMacs, leaf_macs, macs


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


def test_the_leaves_of_a_network():
    view = abstract(named("digits"))
    x = shape(2, 8, 8, 1)

    def apply(params, state, x):
        return view.apply(params, state, x)

    found = leaf_macs(apply, view.params, view.state, x)
    kernels = [(9 * 1 * 16, 64), (9 * 16 * 16, 64), (9 * 16 * 32, 16), (9 * 32 * 32, 16)]
    assert [n for n in found.leaves if n] == [
        2 * 32 * 10,  # the head comes first
        *(2 * entries * positions for entries, positions in kernels),
    ]
    assert found.rest == 0
    assert sum(found.leaves) == macs(view.apply, view.params, view.state, x)


X, W = shape(2, 3), shape(3, 3)


@pytest.mark.parametrize(
    ("fn", "first", "expected"),
    [
        (lambda w, x: x @ w, W, LeafMacs((18,), 0)),
        (lambda w, x: (w.T @ x.T).T, W, LeafMacs((18,), 0)),
        (lambda w, x: x @ jnp.reshape(w, (3, 3)), shape(9), LeafMacs((18,), 0)),
        (
            lambda w, x: x @ w.astype(jnp.float32),
            shape(3, 3, dtype=jnp.bfloat16),
            LeafMacs((18,), 0),
        ),
        (lambda w, x: x @ w[1], shape(2, 3, 3), LeafMacs((18,), 0)),
        (lambda w, x: jax.jit(jnp.matmul)(x, w) @ w, W, LeafMacs((36,), 0)),  # tied
        (lambda w, x: x @ jnp.tanh(w), W, LeafMacs((0,), 18)),  # computed on first
        (lambda w, x: (x @ w) @ (x @ w).T, W, LeafMacs((36,), 12)),  # as in attention
        (lambda w, x: w["a"] @ w["b"], {"a": X, "b": W}, LeafMacs((0, 18), 0)),
        (
            lambda w, x: jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0],
            shape(5, 3, 3),
            LeafMacs((90,), 0),
        ),
        (
            lambda w, x: jax.lax.fori_loop(0, 5, lambda i, x: x @ w, x),
            W,
            LeafMacs((90,), 0),
        ),
        (
            lambda w, x: jax.lax.cond(x[0, 0] > 0, lambda: x @ w @ w, lambda: x @ w),
            W,
            LeafMacs((36,), 0),
        ),
    ],
)
def test_what_a_leaf_takes_part_in(fn, first, expected):
    found = leaf_macs(fn, first, X)
    assert found == expected
    assert sum(found.leaves) + found.rest == macs(fn, first, X)


def test_a_while_loop_hands_its_constants_to_both_functions():
    def loop(w, x):
        test, step = w
        return jax.lax.while_loop(lambda x: jnp.sum(x @ test) < 1, lambda x: x @ step, x)

    assert leaf_macs(loop, (W, W), X, while_trips=10) == LeafMacs((11 * 18, 10 * 18), 0)
    with pytest.raises(ValueError, match="give while_trips"):
        leaf_macs(loop, (W, W), X)
