"""When to truncate and by how much: the sequences of the papers, and the rule in exact fractions."""

import dataclasses
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wormjax as wj
from tests.compiling import counted
from wormjax._policies import decide, init_policy

PAIRS = 4  # a window of five masks


def detector_state(differing, total, *, degenerate=False, invalid=False):
    """A detector that has seen a full window whose masks differ in so many entries altogether."""
    blank = wj.early_bird(lambda p: p).init({"scale": jnp.ones(total)})
    spread = np.array([differing // PAIRS] * PAIRS)
    spread[: differing % PAIRS] += 1
    return dataclasses.replace(
        blank,
        checks=jnp.int32(7),
        disagreements=jnp.asarray(spread.reshape(PAIRS, 1), jnp.int32),
        degenerate=jnp.array(degenerate),
        nonfinite=jnp.array([invalid]),
    )


def factors(policy, means, total):
    """Return the factor after each detection of a run with these mean mask distances."""
    state, told = init_policy(policy, PAIRS, total), []
    for mean in means:
        differing = Fraction(str(mean)) * PAIRS * total
        assert differing.denominator == 1, "choose a total that makes the distance a whole count"
        detector = detector_state(int(differing), total)
        np.testing.assert_allclose(detector.mean_distance, float(mean), rtol=1e-6)
        state, factor = decide(state, detector)
        assert factor.dtype == jnp.float32
        told.append(float(factor))
    return told


RISING_AGAIN = [1, 1, 1, 1, 0.11, 0.16, 0.09]


def test_o_w5_worm_is_latched_by_default():
    policy = wj.policies.worm(0.15, 0.003)
    np.testing.assert_allclose(factors(policy, RISING_AGAIN, 25), [1] * 4 + [0.003] * 3, rtol=1e-6)


def test_o_w5_worm_without_the_latch():
    policy = wj.policies.worm(0.15, 0.003, latch=False)
    expected = [1, 1, 1, 1, 0.003, 1, 0.003]
    np.testing.assert_allclose(factors(policy, RISING_AGAIN, 25), expected, rtol=1e-6)


def test_o_w5_greedy_is_the_mean_distance():
    np.testing.assert_allclose(
        factors(wj.policies.greedy(), RISING_AGAIN, 25), RISING_AGAIN, rtol=1e-6
    )


def test_o_w6_the_rule_of_the_transformer_code():
    means = [1, 1, 0.4, 0.02, 0.012, 0.02]
    expected = [1, 1, 0.4, 0.02, 0.01, 0.02]
    policy = wj.policies.greedy(0.015, 0.01)
    np.testing.assert_allclose(factors(policy, means, 250), expected, rtol=1e-6)


def test_constant_and_off():
    assert factors(wj.policies.off(), RISING_AGAIN, 25) == [1.0] * 7
    np.testing.assert_allclose(
        factors(wj.policies.constant(0.1), RISING_AGAIN, 25), [0.1] * 7, rtol=1e-6
    )
    assert factors(wj.policies.constant(0.0), [1, 0], 25) == [0.0, 0.0]


def test_the_defaults_are_the_papers():
    policy = wj.policies.worm()
    assert policy.trigger == Fraction(3, 20)
    assert policy.factor == 0.003
    assert policy.latch


@pytest.mark.parametrize(
    ("trigger", "differing", "total", "engaged"),
    [
        (0.15, 15, 25, False),  # a mean of exactly 0.15 is not below it; float32 says 0.15000000596
        (0.15, 14, 25, True),
        ("0.15", 300, 500, False),
        (0.1, 8, 20, False),
        (0.1, 7, 20, True),
        (Fraction(1, 3), 4, 3, False),
        (Fraction(1, 3), 3, 3, True),
        (0.0, 0, 25, False),  # nothing is below zero
        (1.0, 100, 25, False),  # the distance before the window is full never triggers
        (1.0, 99, 25, True),
    ],
)
def test_the_trigger_is_strict_and_exact(trigger, differing, total, engaged):
    state = init_policy(wj.policies.worm(trigger, 0.5), PAIRS, total)
    after, factor = decide(state, detector_state(differing, total))

    assert bool(after.engaged) == engaged
    assert float(factor) == (0.5 if engaged else 1.0)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.decimals(0, 1, places=4), st.integers(1, 30), st.integers(1, 10**6), st.floats(0, 1))
def test_the_count_of_the_trigger_is_that_of_exact_fractions(trigger, pairs, total, share):
    below = int(init_policy(wj.policies.worm(str(trigger)), pairs, total).below)
    near = Fraction(trigger) * pairs * total
    for count in {math.floor(near), math.ceil(near), int(share * pairs * total), pairs * total}:
        assert (count < below) == (Fraction(count, pairs * total) < Fraction(trigger))


@pytest.mark.parametrize(
    "policy",
    [
        wj.policies.constant(0.1),
        wj.policies.greedy(),
        wj.policies.greedy(0.015, 0.01),
        wj.policies.worm(0.15, 0.003),
        wj.policies.worm(0.15, 0.003, latch=False),
        wj.policies.off(),
    ],
    ids=["constant", "greedy", "greedy-trigger", "worm", "worm-unlatched", "off"],
)
@pytest.mark.parametrize("spoiled", ["degenerate", "invalid"])
def test_nothing_is_truncated_on_a_mask_that_means_nothing(policy, spoiled):
    # gradclip on the fresh network's mask would scale every channel; greedy would freeze it outright,
    # since equal masks are at distance zero
    state = init_policy(policy, PAIRS, 25)
    for differing in (0, 10, 50):
        state, factor = decide(state, detector_state(differing, 25, **{spoiled: True}))
        assert float(factor) == 1.0
        assert not bool(state.engaged)


def test_a_degenerate_mask_does_not_fire_the_latch():
    # equal scales give equal masks, at distance zero; the first real mask is far from them
    state = init_policy(wj.policies.worm(0.15, 0.003), PAIRS, 25)
    state, _ = decide(state, detector_state(0, 25, degenerate=True))
    assert not bool(state.latched)
    state, factor = decide(state, detector_state(50, 25))
    assert float(factor) == 1.0
    state, factor = decide(state, detector_state(5, 25))
    np.testing.assert_allclose(factor, 0.003, rtol=1e-6)
    # once fired it holds through a degenerate moment, which is itself left alone
    state, factor = decide(state, detector_state(0, 25, degenerate=True))
    assert float(factor) == 1.0
    state, factor = decide(state, detector_state(90, 25))
    np.testing.assert_allclose(factor, 0.003, rtol=1e-6)


def test_the_numbers_of_a_policy_are_arrays_that_change_without_compiling():
    compiled, programs = counted(decide)
    detector = detector_state(10, 25)
    states = [
        init_policy(policy, PAIRS, 25)
        for policy in (
            wj.policies.off(),
            wj.policies.constant(0.25),
            wj.policies.greedy(),
            wj.policies.greedy(0.5, 0.125),
            wj.policies.worm(0.5, 0.75),
            wj.policies.worm(0.05, 0.75),
        )
    ]
    told = [float(compiled(state, detector)[1]) for state in states]
    np.testing.assert_allclose(told, [1, 0.25, 0.1, 0.125, 0.75, 1], rtol=1e-6)
    assert len(programs) == 1


def test_a_factor_may_be_a_traced_array():
    @jax.jit
    def factor_of(chi):
        return decide(init_policy(wj.policies.constant(chi), PAIRS, 25), detector_state(10, 25))[1]

    assert float(factor_of(jnp.float32(0.5))) == 0.5
    assert float(factor_of(jnp.float32(0.25))) == 0.25


# Scores that change little; the policy speaks through worm, whose masks in force are looked at.
PARAMS = {
    "a": {"scale": jnp.arange(1.0, 41.0), "bias": jnp.zeros(40)},
    "b": {"scale": jnp.arange(40.5, 60.0), "bias": jnp.zeros(20)},
}


def in_force(policy, params=PARAMS, checks=2):
    tx = wj.worm(wj.scores.norm_scale, 0.5, window=2, policy=policy)
    state = tx.init(params)
    for _ in range(checks):
        state = wj.detect(params, state)
    return state


def test_random_masks_keep_the_tickets_count_in_every_leaf_and_the_policys_factor():
    inner = wj.policies.constant(0.25)
    state = in_force(wj.policies.random_masks(jax.random.key(1), inner))
    ticket, random = state.detector.newest, state.truncation.masks

    assert float(state.truncation.factor) == 0.25
    for name in ("a", "b"):
        assert int(random[name]["scale"].sum()) == int(ticket[name]["scale"].sum())
        np.testing.assert_array_equal(random[name]["bias"], random[name]["scale"])
    assert int(ticket["a"]["scale"].sum()) == 10  # 60 entries, half kept, leaf b kept whole
    assert not np.array_equal(random["a"]["scale"], ticket["a"]["scale"])
    assert random["b"]["scale"].all()
    # the detector itself is not fooled
    plain = in_force(inner)
    np.testing.assert_array_equal(plain.detector.newest["a"]["scale"], ticket["a"]["scale"])
    np.testing.assert_array_equal(plain.truncation.masks["a"]["scale"], ticket["a"]["scale"])


def test_random_masks_depend_on_the_key_and_stay_from_detection_to_detection():
    def drawn(seed, checks=1):
        policy = wj.policies.random_masks(jax.random.key(seed), wj.policies.constant(0.5))
        return np.asarray(in_force(policy, checks=checks).truncation.masks["a"]["scale"])

    np.testing.assert_array_equal(drawn(1), drawn(1, checks=3))
    assert not np.array_equal(drawn(1), drawn(2))


def test_random_masks_of_growing_counts_are_nested():
    policy = wj.policies.random_masks(jax.random.key(0), wj.policies.constant(0.5))
    few = in_force(policy).truncation.masks["a"]["scale"]
    moved = {**PARAMS, "a": {**PARAMS["a"], "scale": PARAMS["a"]["scale"] + 15.0}}
    more = in_force(policy, moved).truncation.masks["a"]["scale"]

    assert int(more.sum()) > int(few.sum())
    assert bool(jnp.all(more | ~few))


def test_random_masks_follow_worm_by_default():
    policy = wj.policies.random_masks(jax.random.key(0))
    worm = wj.policies.worm()
    assert (policy.trigger, policy.factor, policy.latch) == (worm.trigger, worm.factor, worm.latch)
    assert float(in_force(policy, checks=1).truncation.factor) == 1.0
    np.testing.assert_allclose(in_force(policy).truncation.factor, 0.003, rtol=1e-6)


@pytest.mark.parametrize("chi", [-0.1, 1.5, math.nan, math.inf])
def test_a_factor_outside_the_unit_interval(chi):
    with pytest.raises(ValueError, match=r"chi must be a number in \[0, 1\] \(1 truncates nothing"):
        wj.policies.constant(chi)
    with pytest.raises(ValueError, match=r"factor must be a number in \[0, 1\]"):
        wj.policies.worm(0.15, chi)
    with pytest.raises(ValueError, match=r"factor must be a number in \[0, 1\]"):
        wj.policies.greedy(0.15, chi)


@pytest.mark.parametrize("trigger", [-0.1, 1.1])
def test_a_trigger_that_is_no_distance(trigger):
    with pytest.raises(ValueError, match=r"trigger must lie in \[0, 1\].*mask distance"):
        wj.policies.worm(trigger)
    with pytest.raises(ValueError, match=r"trigger must lie in \[0, 1\].*mask distance"):
        wj.policies.greedy(trigger, 0.1)


def test_greedy_with_half_of_its_switch():
    with pytest.raises(ValueError, match="both a trigger and a factor, or neither"):
        wj.policies.greedy(trigger=0.1)
    with pytest.raises(ValueError, match="both a trigger and a factor, or neither"):
        wj.policies.greedy(factor=0.1)
