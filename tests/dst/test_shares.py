"""Numbers of entries to drop, against fractions of any size."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wormjax.dst._shares import ceil_share, floor_share

SHARES = jax.jit(lambda p, n: (ceil_share(p, n), floor_share(p, n)))
LARGEST = 2**31 - 1


def meant(p):
    """The decimal of at most six digits that a float32 is nearest to, or else the float32 itself."""
    decimal = Fraction(round(Fraction(float(p)) * 10**6), 10**6)
    return decimal if np.float32(float(decimal)) == p else Fraction(float(p))


def check(p, n):
    p = np.float32(p)
    share = meant(p) * n
    up, down = SHARES(p, np.full(2, n, np.int32))
    assert (up.tolist(), down.tolist()) == ([math.ceil(share)] * 2, [math.floor(share)] * 2), (p, n)


@given(st.floats(0, 1, width=32, allow_subnormal=False), st.integers(0, LARGEST))
@example(np.nextafter(np.float32(0.1), np.float32(1)), 60_000_000)
@example(np.nextafter(np.float32(1), np.float32(0)), LARGEST)
@example(2.0**-20, LARGEST)
@example(2.0**-31, LARGEST)
@example(1e-38, LARGEST)
@settings(max_examples=150, deadline=None)
def test_the_exact_value_of_a_float32_is_what_is_shared(p, n):
    check(p, n)


@given(st.integers(0, 10**6), st.integers(0, LARGEST))
@example(100_000, 60_000_001)
@example(100_000, 1000)
@example(5000, 1000)
@example(1, LARGEST)
@example(999_999, LARGEST)
@example(10**6, LARGEST)
@settings(max_examples=150, deadline=None)
def test_a_decimal_is_shared_as_it_was_written(millionths, n):
    assert meant(np.float32(millionths / 1e6)) == Fraction(millionths, 10**6)
    check(millionths / 1e6, n)


def test_jp_13_what_float32_arithmetic_gets_wrong():
    for size in (1_048_576, 20_000_003, 30_000_001, 60_000_001):
        kept = round(Fraction(1, 10) * size)
        up, down = SHARES(np.float32(0.3), jnp.int32(kept))
        assert int(up) == math.ceil(Fraction(3, 10) * kept)
        assert int(down) == math.floor(Fraction(3, 10) * kept)
