"""Tickets of the trained network begin where the dense network was at their epoch."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments._arms_job import ArmsJob
from experiments._folder import RunFolder
from experiments.layer_tickets._config import DENSE, PRESETS, Arm
from experiments.layer_tickets._rewound import Rewinding
from experiments.layer_tickets._setup import Setup
from experiments.layer_tickets._unit import Unit
from experiments.training import MetricsLog

SEED = 3


@pytest.fixture(scope="module")
def setup():
    return Setup(
        dataclasses.replace(
            PRESETS["digits"],
            limit=64,
            epochs=4,
            batch_size=16,
            removed=(1,),
            criteria=(),
            filters=(),
            trained=("random",),
            rewind_to=(2,),
            stage_blocks=(3,),
            stage_widths=(4,),
        )
    )


@pytest.fixture
def rewinding(setup, tmp_path):
    folder = RunFolder.open("layer_tickets", dataclasses.replace(setup.config, out=tmp_path / "r"))
    return Rewinding(setup, folder)


def test_weights_schedule_and_batches_go_on_from_the_epoch(setup, rewinding):
    whole = setup.draw(DENSE, SEED)
    state = setup.start(whole, SEED)
    for epoch in (1, 2, 4):  # epoch 1 is nobody's
        moved = jax.tree.map(lambda x, n=epoch: np.asarray(x) + np.float32(n), state.params)
        rewinding.keep(SEED, epoch, dataclasses.replace(state, params=moved))
    assert len(list(rewinding._folder.checkpoints.iterdir())) == 2

    drawn = rewinding.draw(Arm("random", 1, 2), SEED)
    begun = setup.start(drawn, SEED)
    assert int(begun.epoch[0]) == drawn.start == 2
    assert int(begun.step[0]) == int(begun.opt_state[-1][-1].count[0]) == 2 * setup.steps
    [name] = drawn.removed
    kept = [k for k in range(len(whole.params["layers"])) if str(k) not in name.split("/")]
    assert len(kept) == len(whole.params["layers"]) - 1
    for new, old in enumerate(kept):
        jax.tree.map(
            lambda a, b: np.testing.assert_array_equal(a, np.asarray(b) + np.float32(2)),
            drawn.params["layers"][new],
            whole.params["layers"][old],
        )


def test_a_dense_network_that_failed_is_a_sentence(rewinding):
    with pytest.raises(ValueError, match="dense network of seed 3 kept no state of epoch 2"):
        rewinding.draw(Arm("random", 1, 2), SEED)


class Told(list):
    """Stands for the progress display; a training would ask for more than notes."""

    note = list.append


def test_without_the_dense_network_tickets_fail_with_a_sentence(setup, rewinding):
    folder, told = rewinding._folder, Told()
    with MetricsLog(folder.metrics) as log:
        log.write({"kind": "failure", "arm": "dense", "seed": SEED, "why": "it diverged"})

    class Tickets(ArmsJob):
        def units(self, folder, progress):
            return lambda arm, seed: Unit(setup, folder, rewinding, progress, arm, seed)

    rewound = Arm("random", 1, 2)
    failures = Tickets([DENSE, Arm("random", 1), rewound], [SEED]).run(folder, told)
    assert failures["dense"] == "it diverged"
    assert "features of the dense network of seed 3" in failures["random-1"]
    assert f"(features-{SEED}.npy)" in failures["random-1"]
    assert "another folder" in failures["random-1"]
    assert "kept no state of epoch 2" in failures[rewound.name]
    assert [r["kind"] for r in folder.records()] == ["failure"] * 3  # they did not train
