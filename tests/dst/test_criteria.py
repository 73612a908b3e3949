"""Every drop criterion on the worked example of the specification, and the defects of the references."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

import wormjax as wj
from tests.dst import oracles
from wormjax.dst import criteria, growth

W = np.array([0.5, -0.4, 0.3, -0.2, 0.1, -0.05, 0, 0], np.float32)
G = np.array([0.1, -0.6, 0.05, 0.9, -0.3, 0.02, 1, -2], np.float32)
M = np.array([1, 1, 1, 1, 1, 1, 0, 0], bool)


def dropped(drop, count, mask=M, weight=W, gradient=G, **extra):
    """What a criterion removes of a leaf, by its own rule and selection."""
    seen = wj.dst.Seen(
        jnp.asarray(weight), jnp.asarray(mask), gradient=jnp.asarray(gradient), **extra
    )
    kept = int(mask.sum()) - count

    def choose(scores, kept):  # by NumPy: what is tested is the criterion
        [x] = [np.asarray(s) for s in scores]
        chosen = np.zeros(x.shape, bool)
        chosen[oracles.highest(x, np.ones(x.shape, bool), int(kept))] = True
        return [jnp.asarray(chosen)]

    [stay] = drop.keep([drop(seen)], [seen.mask], jnp.int32(kept), jnp.int32(count), choose)
    return sorted(np.flatnonzero(np.asarray(mask & ~np.asarray(stay))).tolist())


@pytest.mark.parametrize(
    ("drop", "expected"),
    [
        (criteria.magnitude(), [3, 4, 5]),
        (criteria.mest(1.0), [2, 4, 5]),
        (criteria.mest(0.1), [3, 4, 5]),
        (criteria.snip(), [2, 4, 5]),
        (criteria.reciprocal_sensitivity(), [1, 3, 4]),
        (criteria.sensitivity(), [0, 2, 5]),
        (criteria.taylor(), [2, 4, 5]),
        (criteria.grad_step(1.0), [1, 2, 5]),
        (criteria.grad_step(0.1), [3, 4, 5]),
        (criteria.snip_plus(), [0, 1, 2]),
        (criteria.set_(), [2, 4, 5]),
        (criteria.set_(legacy="two_ceil"), [2, 3, 4, 5]),
        (criteria.snip_half(legacy=True), [1, 5]),
        (criteria.snip_half(), [1, 2, 5]),
    ],
    ids=lambda x: getattr(x, "name", None),
)
def test_the_worked_example(drop, expected):
    assert dropped(drop, 3) == expected


def test_set_of_two():
    assert dropped(criteria.set_(), 2) == [4, 5]
    assert dropped(criteria.set_(legacy="released"), 2) == [1, 3, 4, 5]


def test_set_takes_from_the_other_sign_what_one_lacks():
    weight = np.array([0.1, 0.2, 0.3, 0.4, -9.0], np.float32)
    assert dropped(criteria.set_(), 4, np.ones(5, bool), weight, weight) == [0, 1, 2, 4]


@pytest.mark.parametrize("fraction", ["0.5", "0.25", "0.1", "0.05", "0.005"])
def test_fw_1_set_removes_the_fraction_and_the_released_class_half(fraction):
    size = 10_000
    weight = np.random.default_rng(0).normal(size=size).astype(np.float32)
    count = math.ceil(float(fraction) * size)
    gone = dropped(criteria.set_(), count, np.ones(size, bool), weight, weight)
    assert len(gone) == count
    if fraction == "0.05":
        released = dropped(
            criteria.set_(legacy="released"), count, np.ones(size, bool), weight, weight
        )
        assert len(released) / size == pytest.approx(0.5, abs=0.01)


def test_fw_13_half_of_one_keeps_the_layer():
    assert len(dropped(criteria.snip_half(), 1)) == 1
    assert len(dropped(criteria.snip_half(legacy=True), 1)) == 0


def test_fw_9_every_name_is_reachable_and_gamma_counts():
    for name in criteria.NAMED:
        if name == "grad_step":
            with pytest.raises(ValueError, match=r"no default gamma: pass .*grad_step\(gamma"):
                criteria.criterion_of(name)
            continue
        assert isinstance(criteria.criterion_of(name), criteria.Criterion)
    for name in growth.NAMED:
        assert isinstance(growth.growth_of(name), growth.Growth)
    with pytest.raises(ValueError, match="beta must lie in"):
        criteria.running_magnitude(beta=1.0)


def test_fw_8_snip_does_not_depend_on_the_scale_of_the_loss_and_mest_does():
    assert dropped(criteria.snip(), 3, gradient=1000 * G) == dropped(criteria.snip(), 3)
    assert dropped(criteria.mest(), 3, gradient=1000 * G) != dropped(criteria.mest(), 3)


def test_fw_7_what_is_inactive_is_never_compared():
    assert 6 not in dropped(criteria.sensitivity(), 5)
    assert 7 not in dropped(criteria.sensitivity(), 5)


def test_running_averages_begin_with_the_first_value():
    seen = wj.dst.Seen(jnp.asarray(W), jnp.asarray(M))
    with pytest.raises(ValueError, match="'running_magnitude' needs the running"):
        criteria.running_magnitude()(seen)


@pytest.mark.parametrize(
    "name", ["mest", "snip", "snip_plus", "snip_half", "taylor", "sensitivity"]
)
def test_criteria_that_need_gradients_say_so(name):
    with pytest.raises(
        ValueError, match=r"needs the gradient, and there is none. Pass the gradients"
    ):
        criteria.criterion_of(name)(wj.dst.Seen(jnp.asarray(W), jnp.asarray(M)))


def test_unknown_names():
    with pytest.raises(ValueError, match=r"drop='magnitud' is no criterion. Known are 'magnitude'"):
        criteria.criterion_of("magnitud")
    with pytest.raises(ValueError, match=r"grow='gradients' is no growth rule. Known are 'random'"):
        growth.growth_of("gradients")
    with pytest.raises(TypeError, match=r"call it, drop=magnitude\("):
        criteria.criterion_of(criteria.magnitude)
