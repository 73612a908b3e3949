"""Defects of the study's code and of sparse_learning, by the names of the specification."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import wormjax as wj
from tests.dst.runs import G, M, W, moved_once
from wormjax.dst import schedules

# FW-6, FW-11 and FW-12 are defects of its experiments: tests/experiments/dst_criteria/test_studies.py


def test_fw_10_a_linear_schedule_is_linear():
    steps = jnp.array([0, 2500, 5000, 10_000])
    np.testing.assert_allclose(schedules.linear(0.5)(steps, 0, 10_000), [0.5, 0.375, 0.25, 0])


def test_fw_10_scaled_weights_have_the_variance_of_their_own_layers_density():
    random = np.random.default_rng(0)
    params = {k: random.normal(size=(60, 50)).astype(np.float32) for k in "ab"} | {
        "bias": np.ones(3, np.float32)
    }
    masks = {"a": random.random((60, 50)) < 0.1, "b": random.random((60, 50)) < 0.4}
    masks["bias"] = np.array(True)
    scaled = jax.jit(wj.dst.scaled_init)(params, masks)
    for k in "ab":
        density = masks[k].mean()
        np.testing.assert_allclose(scaled[k], params[k] / np.sqrt(density), rtol=1e-5)
        sums = (np.where(masks[k], scaled[k], 0) ** 2).sum() / 50
        np.testing.assert_allclose(
            sums, 60, rtol=0.15
        )  # fan-in times the variance of a dense layer
    np.testing.assert_array_equal(scaled["bias"], params["bias"])


@pytest.mark.parametrize(
    ("settings", "gradient"),
    [
        ({"grow": "gradient"}, np.zeros_like(G)),  # no score tells positions apart
        ({"grow": "gradient", "allow_regrow_dropped": False}, G),  # two places for three
        ({"grow": "random"}, G),
    ],
)
def test_sl_1_as_many_grow_as_are_asked_for_or_fewer_are_dropped(settings, gradient):
    mask, _ = moved_once(M, W, gradient, **settings)
    assert mask.sum() == M.sum()
    if not settings.get("allow_regrow_dropped", True):
        assert (M & ~mask).sum() == (mask & ~M).sum() == 2


@pytest.mark.slow
def test_sl_1_shared_growth_does_not_lose_what_full_leaves_leave_over():
    params = {"small": jnp.ones((2, 3)), "wide": jnp.ones((5, 6))}
    tx = wj.sparse_training(
        optax.sgd(0.1, momentum=0.9),
        key=jax.random.key(0),
        density=0.5,
        distribution="uniform",
        prunable={"small": True, "wide": True},
        grow="redistribution",
        order="before",
        every=1,
        stop=9,
    )
    state = tx.init(params)
    grads = {"small": 1000 * jnp.ones((2, 3)), "wide": jnp.ones((5, 6))}
    _, state = jax.jit(tx.update)(grads, state, params)
    found = {k: int(m.sum()) for k, m in state.masks.items()}
    assert sum(found.values()) == 18
    assert found["small"] > 3
    assert list(found.values()) == state.counts.tolist()
