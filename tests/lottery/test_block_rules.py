"""The rules against the specification's two matrices, and against loops written from its text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wormjax.lottery import block_columns
from wormjax.lottery._block_rules import column_order


def _matrix(text):
    return np.array([[int(c) for c in row] for row in text.split()])


A = _matrix("0111000000 0101010011 1100010000 0110011001")
B = _matrix("111100111001 011101111111 110011111111 100111111011 101101111111 111111101110")


def test_column_order_is_stable():
    np.testing.assert_array_equal(column_order(A), [1, 5, 2, 3, 9, 0, 6, 8, 4, 7])


@pytest.mark.parametrize(
    ("rule", "of_a", "of_b"),
    [
        ("clean", 4, 7),
        ("clean_offset", 5, 8),
        ("reference_train", 6, None),
        ("reference_stale", 8, None),
    ],
)
def test_g2_widths_of_the_specification(rule, of_a, of_b):
    for matrix, width in ((A, of_a), (B, of_b)):
        found = block_columns(matrix, rule)
        assert (None if found is None else len(found)) == width
        if found is not None:
            np.testing.assert_array_equal(found, column_order(matrix)[:width])


def _minimal(counts, offset, taps):
    """The least p with p > 1.5 times the most that a row has outside, tried one by one."""
    columns = sorted(range(counts.shape[1]), key=lambda c: (-counts[:, c].sum(), c))
    for p in range(1, counts.shape[1] + 1):
        if (p - offset) * taps > 1.5 * counts[:, columns[p:]].sum(axis=1).max(initial=0):
            return p
    return None


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_clean_rules_take_the_fewest_columns(seed, taps):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, taps + 1, (rng.integers(1, 6), rng.integers(1, 9))) * (
        rng.random() < 0.9
    )
    assert len(block_columns(counts, "clean", taps=taps)) == _minimal(counts, 0, taps)
    found = block_columns(counts, "clean_offset", taps=taps)
    assert (None if found is None else len(found)) == _minimal(counts, 1, taps)


def test_g5_top_t2_takes_columns_by_their_counts():
    np.testing.assert_array_equal(block_columns(A, "top_t2", t2=2), [1, 2, 3, 5, 9])
    assert block_columns(A, "top_t2", t2=5) is None
