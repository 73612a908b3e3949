"""Learning rates of every mode against the specification's numbers."""

import math

import numpy as np
import optax
import pytest

from wormjax.lottery import Loss, retraining, rewind_step
from wormjax.lottery._retraining import all_rates, pruning_loss

STEPS = np.array([0.1] * 5 + [0.01] * 3 + [0.001] * 2)


def _epochs():
    return np.array([0.1] * 80 + [0.01] * 40 + [0.001] * 40)


def test_slr_subsamples_the_whole_schedule():
    np.testing.assert_array_equal(
        retraining("slr", STEPS, 5, warmup=0).rates, [0.1, 0.1, 0.1, 0.01, 0.001]
    )


def test_slr_takes_an_original_warmup_for_the_highest_rate():
    rates = np.array([0.0, 0.05, 0.1, 0.1, 0.01, 0.01])
    np.testing.assert_array_equal(
        retraining("slr", rates, 6, warmup=0).rates, [0.1, 0.1, 0.1, 0.1, 0.01, 0.01]
    )


def test_warmup_is_a_half_cosine_over_a_tenth():
    found = retraining("slr", STEPS, 40).rates
    np.testing.assert_allclose(
        found[:4], [0.05 * (1 - math.cos(math.pi * j / 4)) for j in range(4)]
    )
    np.testing.assert_array_equal(found[4:], [STEPS[j * 10 // 36] for j in range(36)])


def test_lr_rewind_takes_the_end_of_the_schedule():
    found = retraining("lr_rewind", _epochs(), 60)
    np.testing.assert_array_equal(found.rates, [0.01] * 20 + [0.001] * 40)
    assert found.steps == range(160, 220)


@pytest.mark.parametrize(("distance", "peak"), [(0.05, 0.0125), (0.3, 0.0424264), (0.9, 0.1)])
def test_allr_adapts_the_peak(distance, peak):
    found = retraining("allr", _epochs(), 20, loss=Loss(distance, 0.5), warmup=0).rates
    np.testing.assert_allclose(found, peak * (1 - np.arange(20) / 20), rtol=1e-5)


def test_fine_tuning_clr_and_llr():
    np.testing.assert_array_equal(retraining("fine_tune", STEPS, 3).rates, [0.001] * 3)
    np.testing.assert_allclose(
        retraining("clr", STEPS, 4, warmup=0).rates,
        [0.001 + 0.099 * (1 + math.cos(math.pi * j / 4)) / 2 for j in range(4)],
    )
    np.testing.assert_allclose(
        retraining("llr", STEPS, 4, warmup=0).rates, [0.1, 0.075, 0.05, 0.025]
    )


def test_the_lowest_rate_is_not_that_of_a_warmup():
    rates = np.array([0.0, 0.1, 0.1, 0.02])
    np.testing.assert_array_equal(retraining("fine_tune", rates, 2).rates, [0.02, 0.02])


def test_i2_the_default_rewinding_point_is_five_percent():
    assert rewind_step(0.05, 352 * 160) == 2816
    assert rewind_step("16ep", 352 * 160, 352) == rewind_step(0.1, 352 * 160) == 5632
    assert rewind_step("7it", 8) == 7


def test_i3_both_beginnings_of_the_schedule():
    goes_on = retraining("weight_rewind", STEPS, 10, rewind=6)
    assert (goes_on.steps, goes_on.rates[0]) == (range(6, 10), 0.01)
    afresh = retraining("weight_rewind", STEPS, 10, rewind=6, schedule_from="zero")
    assert (afresh.steps, afresh.rates[0]) == (range(10), 0.1)
    assert retraining("init", STEPS, 10, rewind=6).steps == range(10)


@pytest.mark.parametrize("point", ["10it", "2ep", 1, 1.0])
def test_a_rewinding_point_after_the_end(point):
    with pytest.raises(ValueError, match="at or after the end of a training of 10 steps"):
        rewind_step(point, 10, 5)


@pytest.mark.parametrize(
    ("point", "told"), [("soon", "got 'soon'"), (7, "Write '7it'"), ("3ep", "pass steps_per_epoch")]
)
def test_a_rewinding_point_that_is_not_one(point, told):
    with pytest.raises(ValueError, match=told):
        rewind_step(point, 10)


def test_rates_of_a_schedule_a_list_and_a_number():
    np.testing.assert_allclose(
        all_rates(optax.linear_schedule(1.0, 0.0, 4), 4), [1, 0.75, 0.5, 0.25]
    )
    np.testing.assert_array_equal(all_rates(0.5, 2), [0.5, 0.5])
    with pytest.raises(ValueError, match="there are 3 steps"):
        all_rates([0.1, 0.2], 3)
    with pytest.raises(ValueError, match="negative or not finite"):
        all_rates([0.1, -0.2], 2)


def test_budgets_that_do_not_fit():
    with pytest.raises(ValueError, match="at most the 10 steps"):
        retraining("lr_rewind", STEPS, 11)
    with pytest.raises(ValueError, match="must be at least 1"):
        retraining("slr", STEPS, 0)
    with pytest.raises(ValueError, match=r"pass loss="):
        retraining("allr", STEPS, 5)


def test_what_a_pruning_step_took():
    params = {"w": np.array([3.0, 4.0, 0.0, 12.0])}
    before, after = {"w": np.array([1, 1, 1, 0], bool)}, {"w": np.array([0, 1, 1, 0], bool)}
    loss = pruning_loss(params, before, after)
    assert loss.distance == pytest.approx(3 / 5)
    assert loss.sparsity == pytest.approx(1 / 3)
