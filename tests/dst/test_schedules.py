"""Schedules against the numbers of the specification and formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wormjax as wj

schedules = wj.dst.schedules

VECTORS = {
    "cosine": (
        schedules.cosine(0.5, 0.005),
        (0, 35_200),
        {
            0: 0.5,
            800: 0.499369,
            8_800: 0.427509,
            17_600: 0.2525,
            26_400: 0.077491,
            34_400: 0.005631,
            35_200: 0.005,
            50_000: 0.005,
        },
    ),
    "geometric_legacy": (
        schedules.geometric_legacy(0.5),
        (1, 35_200),
        {0: 0.5, 599: 0.5, 600: 0.495, 6_000: 0.452191, 35_200: 0.279133},
    ),
    "linear": (  # FW-10: it is linear
        schedules.linear(0.5),
        (0, 35_200),
        {0: 0.5, 8_800: 0.375, 17_600: 0.25, 35_200: 0.0, 36_000: 0.0},
    ),
    "rigl_cosine": (
        schedules.cosine(0.3, 0.0, origin="global"),
        (0, 25_000),
        {0: 0.3, 6_250: 0.256066, 12_500: 0.15, 18_750: 0.043934, 25_000: 0.0},
    ),
    "exponential": (
        schedules.exponential(0.3, 3),
        (0, 25_000),
        {0: 0.3, 6_250: 0.126562, 12_500: 0.0375, 25_000: 0.0},
    ),
    "constant": (schedules.constant(0.3), (100, 200), {0: 0.3, 150: 0.3, 10_000: 0.3}),
    "jaxpruner": (
        schedules.cubic("0.1", legacy="jaxpruner"),
        (0, 100),
        {0: 1 - 0.026731, 50: 1 - 0.794116, 90: 1 - 0.899344, 99: 0.1, 100: 0.1},
    ),
    "granet": (
        schedules.granet("0.1", "0.5", every=1000),
        (0, 10_000),
        {0: 0.5, 1_000: 0.3916, 1_999: 0.3916, 5_000: 0.15, 9_000: 0.1004, 10_000: 0.1},
    ),
    "granet_dense": (
        schedules.granet(0.1, 1, every=1000),
        (0, 10_000),
        {1_000: 1 - 0.2439, 5_000: 1 - 0.7875, 9_000: 1 - 0.8991},
    ),
    "granet_95": (schedules.granet("0.05", "0.5", every=1), (0, 31), {30: 1 - 0.949985, 31: 0.05}),
    "itop_gmp": (
        schedules.cubic(0.1, legacy="itop"),
        (0, 9),
        {1: 1 - 0.2439, 5: 1 - 0.7875, 9: 1 - 0.8991},
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_the_numbers_of_the_specification(name):
    schedule, (begin, end), expected = VECTORS[name]
    steps = jnp.asarray(list(expected), jnp.int32)
    found = jax.jit(schedule)(steps, begin, end)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, list(expected.values()), atol=1e-6)


WINDOW = (2_000, 27_000)


@pytest.mark.parametrize(
    ("schedule", "at_begin", "at_end"),
    [
        (schedules.cosine(0.3, 0.005), 0.3, 0.005),
        (schedules.linear(0.3), 0.3, 0.0),
        (schedules.exponential(0.3, 2), 0.3, 0.0),
        (schedules.cubic(0.1, 0.8), 0.8, 0.1),
        (schedules.granet(0.1, 0.5, every=100), 0.5, 0.1),
    ],
)
def test_rl_1_a_schedule_starts_at_its_first_step_and_stays_at_its_end(schedule, at_begin, at_end):
    steps = jnp.array([0, WINDOW[0], WINDOW[1], WINDOW[1] + 9_999], jnp.int32)
    found = np.asarray(jax.jit(schedule)(steps, *WINDOW))
    np.testing.assert_allclose(found[:2], at_begin, rtol=1e-6)
    assert (found[2:] == np.float32(at_end)).all()  # to the last bit


def test_rl_1_the_references_forget_where_they_start():
    rigl = jax.jit(schedules.cosine(0.3, 0.0, origin="global"))
    span = WINDOW[1] - WINDOW[0]
    for step in (WINDOW[0], 20_000, WINDOW[1], 40_000):
        expected = 0.15 * (1 + np.cos(np.pi * step / span))
        assert abs(float(rigl(step, *WINDOW)) - expected) < 1e-6
    assert float(rigl(WINDOW[0], *WINDOW)) < 0.3
    assert float(rigl(40_000, *WINDOW)) > float(rigl(WINDOW[1], *WINDOW))


@pytest.mark.parametrize(
    ("density", "begin", "end"), [("0.1", 0, 9), ("0.05", 3, 31), ("0.123", 1000, 32_123)]
)
def test_it_1_gn_3_jp_11_gradual_densities_end_exactly(density, begin, end):
    """Whatever the period, the last step has the target to the last bit: counts can be exact."""
    target = np.float32(density)
    for schedule in (schedules.cubic(density, 0.9), schedules.granet(density, 0.5, every=3)):
        assert np.asarray(jax.jit(schedule)(end, begin, end)) == target
        assert np.asarray(jax.jit(schedule)(end + 77, begin, end)) == target
    late = jax.jit(schedules.cubic(density, 0.9, legacy="itop"))
    assert float(late(9, 0, 9)) > target


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 500), st.integers(1, 2000), st.integers(0, 3000))
def test_drop_fractions_agree_with_float64(begin, span, step):
    x = min(max((step - begin) / span, 0.0), 1.0)
    expected = 0.01 + 0.5 * (0.4 - 0.01) * (1 + np.cos(np.pi * x))
    assert abs(float(COSINE(step, begin, begin + span)) - expected) < 1e-6
    assert abs(float(LINEAR(step, begin, begin + span)) - 0.4 * (1 - x)) < 1e-6


COSINE, LINEAR = jax.jit(schedules.cosine(0.4, 0.01)), jax.jit(schedules.linear(0.4))


def test_the_learning_rate_leads():
    warm = optax.warmup_cosine_decay_schedule(0.0, 0.2, 100, 1000)
    tied = jax.jit(schedules.learning_rate(0.5, warm, peak=0.2))
    assert float(tied(0, 1, 1000)) == 0.0
    for step in (50, 100, 550, 1000):
        expected = 0.5 * float(warm(step)) / 0.2
        assert abs(float(tied(step, 1, 1000)) - expected) < 1e-6
    steep = schedules.learning_rate(0.5, optax.constant_schedule(3.0), peak=1.0)
    assert float(steep(3, 1, 9)) == 0.5  # never more than was asked for


def test_a_window_of_no_length_is_over():
    assert float(schedules.cubic(0.1)(5, 5, 5)) == np.float32(0.1)
    assert float(schedules.cubic(0.1)(4, 5, 5)) == 1.0


def test_steps_beyond_float32_keep_their_order():
    steps = jnp.array([2**30, 2**30 + 2**20, 2**31 - 1], jnp.int32)
    found = np.asarray(schedules.linear(0.5)(steps, 2**30, 2**31 - 1))
    assert found[0] == 0.5
    assert found[2] == 0.0
    assert found[0] > found[1] > found[2]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: schedules.cosine(1.5), r"fraction must lie in \[0, 1\], got 1\.5"),
        (lambda: schedules.cosine(0.5, -0.1), r"eta must lie in \[0, 1\]"),
        (lambda: schedules.exponential(0.5, 0.0), "k must be a positive exponent, got 0"),
        (lambda: schedules.geometric_legacy(0.5, rate=1.5), r"rate must lie in \(0, 1\]"),
        (lambda: schedules.geometric_legacy(0.5, every=0), "every must be at least one step"),
        (lambda: schedules.granet(0.1, every=0), "every must be at least one step"),
        (lambda: schedules.learning_rate(0.5, lambda t: t, peak=0.0), "peak must be a positive"),
        (lambda: schedules.cubic(0.0), r"final must lie in \(0, 1\], got 0"),
        (lambda: schedules.granet(0.1, 0.0), r"initial must lie in \(0, 1\], got 0"),  # GN-1
        (lambda: schedules.cubic(0.1, power=0.0), "power must be a positive exponent"),
    ],
)
def test_wrong_input_gets_its_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
