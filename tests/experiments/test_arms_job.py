"""Arms with one seed after another, and what is measured of those that finished."""

from typing import NamedTuple

import pytest

from experiments._arms_job import ArmsJob
from experiments._epoch import check_loss
from experiments._folder import RunFolder
from experiments._history import RunHistory, measure_finished


class Arm(NamedTuple):
    """All that is asked of an arm."""

    name: str


ARMS = [Arm("dense"), Arm("snip-1")]


class Unit:
    """Writes a result that tells where it began."""

    def __init__(self, arm, seed):
        self.head = {"kind": "result", "arm": arm.name, "seed": seed}

    def restore(self):
        return "the middle", None

    def run(self, log, start):
        log.write(self.head | {"from": start})


def test_every_arm_runs_with_every_seed_from_where_it_stood(tmp_path):
    class Job(ArmsJob):
        def units(self, folder, progress):
            return Unit

    job, folder = Job(ARMS, [3, 4]), RunFolder(tmp_path)
    assert job.phases == 4
    assert job.run(folder, progress=None) == {}
    found = [(r["arm"], r["seed"], r["from"]) for r in folder.records()]
    each = [("dense", 3), ("dense", 4), ("snip-1", 3), ("snip-1", 4)]
    assert found == [(*pair, "the middle") for pair in each]


def test_only_arms_with_all_seeds_are_measured():
    over = [("dense", 3), ("dense", 4), ("snip-1", 3)]
    history = RunHistory({"kind": "result", "arm": arm, "seed": seed} for arm, seed in over)
    found = measure_finished(history, ARMS, [3, 4], lambda arm, seed: {arm.name: seed})
    assert found == {Arm("dense"): {"dense": [3, 4]}}


def test_accuracy_is_that_of_the_earliest_best_epoch():
    rows = [(0.5, 0.1), (0.75, 0.2), (0.75, 0.3), (0.5, 0.4)]
    history = RunHistory(
        {"kind": "epoch", "arm": "a", "seed": 0, "validation_accuracy": v, "test_accuracy": t}
        for v, t in rows
    )
    assert history.accuracies("a", 0) == {"accuracy": 0.2, "accuracy_last": 0.4}
    assert history.accuracies("a", 0, "test_accuracy")["accuracy"] == 0.4


def test_a_loss_that_is_not_finite_is_a_sentence():
    check_loss(0.5, "a", 0, 1)
    with pytest.raises(ValueError, match="arm 'a', seed 0, is nan in epoch 1"):
        check_loss(float("nan"), "a", 0, 1)
