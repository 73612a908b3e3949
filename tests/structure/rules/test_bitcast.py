"""Reading bits as another type."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from wormjax.structure._trace import trace
from wormjax.structure.rules import PROPAGATE

RNG = np.random.default_rng(0)
# small whole numbers: their products and sums are exact, so that bits can be compared
A = RNG.integers(-3, 4, (4, 8)).astype(np.float32)
X = RNG.integers(-3, 4, (5, 4)).astype(np.float32)


def test_equal_widths_pass(check_function):
    def apply(p, x):
        bits = lax.bitcast_convert_type(0.5 * (x @ p) + 1.0, jnp.uint32)
        return lax.reduce_sum(bits, (1,)), lax.reduce_sum(
            lax.bitcast_convert_type(bits, jnp.float32), (1,)
        )

    assert check_function(apply, A, X).free == 1


def test_the_axis_of_the_bytes_stays_whole_and_the_others_pass(check_function):
    def apply(p, x):
        halves = lax.bitcast_convert_type(x @ p, jnp.uint16)  # (5, 8, 2)
        back = lax.bitcast_convert_type(halves, jnp.float32)
        return lax.reduce_sum(halves, (1,)), lax.reduce_sum(back, (1,))

    assert check_function(apply, A, X).free == 1


def test_a_channel_axis_that_becomes_bytes_stays_whole():
    def apply(p):
        return lax.reduce_sum(lax.bitcast_convert_type(p, jnp.uint32), (0,))

    traced = trace(apply, np.zeros((6, 2), np.uint16), (), None, PROPAGATE)
    [[rows, words]] = traced.params
    assert not traced.dims.reasons(rows)
    assert "bytes of one number" in traced.dims.reasons(words)[0].why
