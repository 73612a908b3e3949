"""Search, draw, prune, retrain: what is carried from one to the next, to the bit."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

import wormjax as wj
from experiments.worm._arms import arm_rules, search_optimizer
from experiments.worm._config import ARMS, WormConfig
from experiments.worm._presets import PRESETS
from experiments.worm._retrain import begin_retrain, retrain
from experiments.worm._search import begin_search, search
from experiments.worm._setup import Setup
from wormjax._opt_state import find_states

SEEDS = [3, 4]
CONFIG = WormConfig(
    model="digits_mlp",
    limit=64,
    epochs=5,
    search_cap=4,
    window=2,
    learning_rate=0.1,
    weight_decay=1e-3,
    first_seed=3,
    seeds=2,
    driver="scan",
)


@pytest.fixture(scope="module")
def setup():
    return Setup(CONFIG)


@pytest.fixture(scope="module")
def found(setup):
    start = begin_search(setup.start_search("worm", SEEDS))
    rules = {"stop": True, "epochs": CONFIG.search_cap}
    return search(
        setup,
        "worm",
        SEEDS,
        start,
        **rules,
        log=lambda record: None,
        after_epoch=lambda now: None,
    )


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_eb_d1_wd9_retraining_begins_with_the_drawn_weights_and_the_tickets_channels_only(
    setup, found
):
    assert None not in found.emerged_at
    begun = begin_retrain(setup, found, SEEDS)
    trees = (found.ticket.params, begun.state.params, begun.masks)
    ranked = 0
    for old, new, mask in zip(*map(jax.tree.leaves, trees), strict=True):
        ranked += mask.ndim > 1
        spread = np.reshape(mask, mask.shape + (1,) * (new.ndim - mask.ndim))
        np.testing.assert_array_equal(new, np.where(spread, old, 0))
    assert ranked == 4  # W-D10: no weight, no bias, no head is pruned
    counts = np.zeros(len(SEEDS))
    for layer in (0, 1):
        norm = begun.masks["layers"][layer]["norm"]
        assert norm["scale"].shape == (len(SEEDS), 64)
        np.testing.assert_array_equal(norm["scale"], norm["bias"])
        counts += np.asarray(norm["scale"]).sum(axis=1)
    assert counts.tolist() == [64, 64]
    same(begun.state.stats, found.ticket.stats)
    assert begun.weights == (None, None)


def test_eb_d12_every_seed_goes_on_at_its_own_epoch_with_a_fresh_optimizer(setup, found):
    begun = begin_retrain(setup, found, SEEDS)
    epochs = list(found.emerged_at)
    assert begun.state.epoch.tolist() == epochs
    assert begun.state.step.tolist() == [e * setup.steps for e in epochs]
    [schedule] = find_states(begun.state.opt_state, optax.ScaleByScheduleState)
    assert schedule.count.tolist() == [e * setup.steps for e in epochs]
    [trace] = find_states(begun.state.opt_state, optax.TraceState)
    assert not any(x.any() for x in jax.tree.leaves(trace.trace))
    keys = jax.random.key_data(begun.state.key)
    for row, seed in zip(keys, SEEDS, strict=True):
        np.testing.assert_array_equal(row, jax.random.key_data(jax.random.key(seed)))


def test_masked_channels_stay_zero_and_the_others_move(setup, found):
    begun = begin_retrain(setup, found, SEEDS)
    masks = jax.device_get(begun.masks)
    before = jax.device_get(begun.state.params)
    ended = []
    end = retrain(
        setup,
        "worm",
        SEEDS,
        begun,
        log=lambda record: None,
        after_epoch=lambda now: ended.append(1),
    )
    assert len(ended) == CONFIG.epochs - min(found.emerged_at)
    for mask, old, new in zip(
        *map(jax.tree.leaves, (masks, before, end.state.params)), strict=True
    ):
        if mask.ndim > 1:
            assert not np.asarray(new)[~mask].any()
        assert (np.asarray(new) != old).mean() > 0.3
    assert all(isinstance(w, str) for w in end.weights)


def test_a_pruned_entry_that_moves_is_a_failure(setup, found):
    begun = begin_retrain(setup, found, SEEDS)
    wrong = jax.tree.map(
        lambda m: ~m if m.ndim > 1 else m, begun.masks
    )  # live channels look pruned
    late = dataclasses.replace(begun.state, epoch=begun.state.epoch * 0 + CONFIG.epochs)
    with pytest.raises(ValueError, match=r"pruned entries of arm 'worm' are no longer zero"):
        retrain(
            setup,
            "worm",
            SEEDS,
            begun._replace(state=late, masks=wrong),
            log=lambda record: None,
            after_epoch=lambda now: None,
        )


def test_wd7_arms_start_alike_and_seeds_do_not(setup):
    starts = {arm: setup.start_search(arm, SEEDS) for arm in ARMS}
    for start in starts.values():
        same(start.params, starts["dense"].params)
        same(jax.random.key_data(start.key), jax.random.key_data(starts["dense"].key))
    [kernel, *_] = [x for x in jax.tree.leaves(starts["dense"].params) if x.ndim == 3]
    assert not np.array_equal(kernel[0], kernel[1])
    alone = setup.start_search("dense", SEEDS[1:])
    same(jax.tree.map(lambda x: x[1:], starts["dense"].params), alone.params)


def test_weights_and_augmentation_never_share_a_key(setup):
    """Step n augments with fold_in(key, n); the weights' draws must come from elsewhere."""
    start = setup.start_search("dense", [0])
    shape = start.params["layers"][0]["dense"]["kernel"].shape[1:]
    for step in range(4):
        drawn = jax.random.normal(jax.random.fold_in(jax.random.key(0), step), shape)
        kernel = np.asarray(start.params["layers"][0]["dense"]["kernel"][0])
        assert abs(np.corrcoef(kernel.ravel(), np.asarray(drawn).ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("arm", ARMS)
def test_the_truncation_stands_where_the_arm_says(arm):
    rules = arm_rules(CONFIG, arm, jax.random.key(0))
    tx = search_optimizer(CONFIG, rules, steps=2)
    state = tx.init({"norm": {"scale": np.ones(4, np.float32), "bias": np.zeros(4, np.float32)}})
    assert rules.last is (arm == "worm_last")
    assert isinstance(state[-1 if rules.last else 0], wj.WormState)
    assert rules.searches is (arm != "dense")
    assert (rules.policy.key is not None) is (arm == "worm_random")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_the_papers_numbers_where_they_have_some(preset):
    config = PRESETS[preset]
    assert (config.window, config.epsilon, config.margin, config.factor) == (5, 0.1, 0.05, 0.003)
    assert (config.trigger.numerator, config.trigger.denominator) == (3, 20)
    recipe = config.recipe
    if "worm" in preset:  # the WORM paper's section 4
        assert (config.batch_size, config.learning_rate, config.momentum) == (32, 0.01, 0.9)
        assert (config.weight_decay, config.l1, config.prune_ratio) == (0, 0, 0.5)
        assert (config.prune_after, config.recover) == ("magnitude_per_tensor", "dense")
    else:
        assert config.arms == ARMS
    if preset == "cifar10_worm_table1":
        assert (config.seeds, config.chis) == (5, (0.5, 0.1, 0.05, 0.01))
    if preset == "cifar10":
        assert (recipe.epochs, recipe.milestones, config.l1) == (160, (80, 120), 1e-4)
        assert recipe.schedule(10)(1000) == np.float32(0.01)
