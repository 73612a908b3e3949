"""The study's further grids and its released recipe: what they train, without training it."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.data import load
from experiments.data._splits import partition
from experiments.dst_criteria._config import PRESETS, Arm
from experiments.dst_criteria._measures import METRICS, History
from experiments.dst_criteria._setup import Setup
from experiments.dst_criteria._unit import Unit


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("mlp_period", 2 * 5 * 2 * 5),  # for each period
        ("resnet56_global", 3 * 4 * 1 * 5),
        ("mlp_global", 3 * 4 * 1 * 5),
        ("mlp_gamma", 11 * 1 * 1 * 5),  # for each gamma
        ("mlp_sensitivity", 11 * 1 * 2 * 5),
        ("lenet_large_batch", 11 * 5 * 2 * 3),
    ],
)
def test_the_further_studies_are_the_specifications_grids(name, runs):
    config = PRESETS[name]
    moving = [arm for arm in config.arms if arm.criterion]
    assert len(moving) * config.seeds == runs
    assert config.every == (800 if name.endswith("_period") else 100)
    assert (config.scope == "global") == name.endswith("_global")


@pytest.fixture
def called(monkeypatch):
    """What the library's functions are called with."""
    calls = []

    def record(of):
        def made(inner, **settings):
            calls.append((of, settings))
            return inner

        return made

    for of in ("wj.sparse_training", "wj.dst.presets.fantastic_weights", "wj.dst.presets.static"):
        monkeypatch.setattr(f"experiments.dst_criteria._setup.{of}", record(of))
    return calls


def tiny(**settings):
    return dataclasses.replace(
        PRESETS["resnet56_cifar100_released"],
        data="digits",
        model="digits_mlp",
        limit=512,
        **settings,
    )


def test_fw_11_dense_and_sparse_share_a_recipe_unless_the_released_one_is_asked_for(called):
    matched = [config for name, config in PRESETS.items() if not config.released]
    assert len(matched) == len(PRESETS) - 1
    for config in matched:
        assert config.batch_of(Arm(None, None, 1.0)) == config.batch_of(config.compared)
    released = PRESETS["resnet56_cifar100_released"]
    assert [released.batch_of(a) for a in (Arm(None, None, 1.0), released.compared)] == [256, 128]
    setup = Setup(tiny(every=2, epochs=2))
    called.clear()
    for arm in (Arm(None, None, 0.1), released.compared):
        setup.optimizer(arm, jax.random.key(0))
    [(static, first), (study, second)] = called
    assert (static, study) == ("wj.dst.presets.static", "wj.dst.presets.fantastic_weights")
    assert first["initial"] == second["initial"] == "bernoulli"
    assert second["order"] == "fw_mixed"
    assert second["total_steps"] == 2 * 4
    called.clear()
    Setup(tiny(every=2, epochs=2, released=False)).optimizer(released.compared, jax.random.key(0))
    assert {of for of, _ in called if of.endswith("fantastic_weights")} == set()


def test_fw_6_validation_is_apart_from_test_and_no_image_is_augmented_in_it():
    whole = load("digits", split_seed=0)
    rows = [set(np.asarray(split.indices).tolist()) for split in whole.splits.values()]
    assert sum(map(len, rows)) == len(set.union(*rows))
    assert all(rows)
    # augmentation belongs to the training step: evaluation sees what is stored
    setup = Setup(tiny(every=2, epochs=2, augment=True))
    stored = load("digits", split_seed=0, limit=512).validation.images
    np.testing.assert_array_equal(setup._held_out["validation"][0], stored)
    # without a validation split there is nothing to choose an epoch by, which is said before training
    with pytest.raises(ValueError, match="every split needs a row"):
        partition(np.array([0, 1, 0, 1]), (4, 0), seed=0)


def test_fw_12_both_metrics_are_told():
    """The epoch chosen on validation images, and the last one, where a bad mask update would show."""
    rows = [
        {
            "kind": "epoch",
            "arm": "dense",
            "seed": 0,
            "validation_accuracy": chosen_by,
            "test_accuracy": told,
        }
        for chosen_by, told in ((0.2, 0.25), (0.9, 0.8), (0.5, 0.85))
    ]
    result = {"kind": "result", "arm": "dense", "seed": 0, "seconds": 1.0}
    assert {"accuracy", "accuracy_last"} <= {metric.key for metric in METRICS}
    dense = Arm(None, None, 1.0)
    found = History([*rows, result]).measured(dense, 0, legacy_selection=False)
    assert (found["accuracy"], found["accuracy_last"]) == (0.8, 0.85)


@pytest.mark.slow
def test_fw_12_criteria_are_compared_at_the_first_weights_before_any_step():
    setup = Setup(tiny(every=2, epochs=2, criteria=("magnitude", "snip")))
    unit = Unit.__new__(Unit)  # its checkpoints are not asked
    unit._setup, unit._arm, unit._seed = setup, setup.config.compared, 0
    first = setup.start(setup.config.compared, 0)
    before = [np.array(x) for x in jax.tree.leaves((first.params, first.stats))]
    record = unit._similarity("before training", first)
    for x, y in zip(jax.tree.leaves((first.params, first.stats)), before, strict=True):
        np.testing.assert_array_equal(x, y)
    again = setup.start(setup.config.compared, 0)
    for x, y in zip(jax.tree.leaves(again.params), jax.tree.leaves(first.params), strict=True):
        np.testing.assert_array_equal(x, y)
    assert record["when"] == "before training"
    assert np.asarray(record["jaccard"]).shape == (2, 2)
