import math
from decimal import Decimal
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wormjax._counts import (
    COUNT_LIMIT,
    as_fraction,
    check_total,
    floor_count,
    ratio_in_unit_interval,
)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 6), st.integers(0, 2**31 - 1))
def test_a_decimal_means_what_it_says(digits, places, size):
    exact = Decimal(digits).scaleb(-places)
    value = float(exact)
    assert as_fraction("density", value) == Fraction(exact)
    assert floor_count(as_fraction("density", value), size) == digits * size // 10**places


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1, Fraction(1, 10)),
        (1e-7, Fraction(1, 10**7)),
        (1, Fraction(1)),
        ("1/3", Fraction(1, 3)),
        ("0.35", Fraction(7, 20)),
        (Fraction(2, 7), Fraction(2, 7)),
        (np.float32(0.1), Fraction(1, 10)),  # its own shortest decimal, not the double's
        (np.float64(0.29), Fraction(29, 100)),
        (np.int64(1), Fraction(1)),
        (-0.25, Fraction(-1, 4)),
    ],
)
def test_numbers_of_every_kind_become_exact(value, expected):
    assert as_fraction("density", value) == expected


def test_the_counts_that_floats_get_wrong():
    assert int(100 * 0.29) == 28  # what the references compute
    assert floor_count(as_fraction("density", 0.29), 100) == 29
    assert 1 - 18 / 20 < 0.1  # and float64 calls this less than a tenth
    assert 1 - Fraction(18, 20) == as_fraction("epsilon", 0.1)


def test_floor_count_is_exact_where_float64_is_not():
    assert floor_count(Fraction(2, 3), 3 * (2**60 + 1)) == 2 * (2**60 + 1)


@pytest.mark.parametrize("value", [jnp.float32(0.5), jnp.ones(3)])
def test_a_jax_array_is_refused_with_the_way_out(value):
    with pytest.raises(TypeError, match=r"density arrived as a JAX array.* static_args"):
        as_fraction("density", value)


@pytest.mark.parametrize("value", [True, None, [0.5], np.array(0.5), 1j])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match="epsilon must be a number, got"):
        as_fraction("epsilon", value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "half", "", "1/0"])
def test_what_is_no_finite_decimal_is_refused(value):
    with pytest.raises(ValueError, match="epsilon must be a finite decimal number, got"):
        as_fraction("epsilon", value)


@pytest.mark.parametrize("value", [0.0, 1.0, 1.2, -0.1, "1", 30.0])
def test_a_ratio_outside_the_open_interval_is_refused(value):
    with pytest.raises(ValueError, match=r"prune_ratio must lie strictly between 0 and 1, got"):
        ratio_in_unit_interval("prune_ratio", value)


@pytest.mark.parametrize("value", [1e-12, 0.999999999999, "1/3"])
def test_a_ratio_inside_is_returned_exactly(value):
    assert ratio_in_unit_interval("prune_ratio", value) == Fraction(
        value if value == "1/3" else str(value)
    )


def test_totals_fit_int32_or_are_refused():
    assert np.iinfo(np.int32).max + 1 == COUNT_LIMIT
    assert check_total([2**30, 2**30 - 1]) == 2**31 - 1
    assert check_total([]) == 0
    with pytest.raises(ValueError, match=r"2,147,483,648 score entries .* scope='leaf'"):
        check_total([2**30, 2**30])
    assert check_total([2**29 - 1], times=4) == 2**29 - 1
    with pytest.raises(ValueError, match=r"limit 536,870,912 here"):
        check_total([2**29], times=4)
