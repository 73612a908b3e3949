"""Arms and cohorts one after another; what becomes of a whole run is tested with each experiment."""

import json

import pytest

from experiments._cli import RunConfig
from experiments._folder import RunFolder
from experiments._progress import Progress
from experiments.channels import run_units
from experiments.training import CheckpointError

UNITS = [("a", [0]), ("a", [1]), ("b", [0, 1])]


@pytest.fixture
def folder(tmp_path):
    return RunFolder.open("worm", RunConfig(preset="digits", out=tmp_path / "run"), [])


def run(folder, broken=(), error=ValueError):
    ran = []

    def begin(arm, seeds):
        def unit(log):
            ran.append((arm, *seeds))
            if (arm, *seeds) in broken:
                raise error("it broke.")
            for seed in seeds:
                log.write({"kind": "result", "arm": arm, "seed": seed})

        return None, unit

    with Progress(process_index=1) as progress:
        return run_units(folder, progress, UNITS, begin), ran


def test_units_run_once_each_and_in_order(folder):
    assert run(folder) == ({}, [("a", 0), ("a", 1), ("b", 0, 1)])
    assert run(folder) == ({}, [])


def test_a_failed_arm_is_a_record_and_the_others_go_on(folder):
    assert run(folder, {("a", 0)}) == ({"a": "it broke."}, [("a", 0), ("b", 0, 1)])
    first = json.loads(folder.metrics.read_text().splitlines()[0])
    assert first == {"kind": "failure", "arm": "a", "seed": 0, "why": "it broke."}
    assert run(folder) == ({"a": "it broke."}, [])


def test_a_damaged_checkpoint_is_no_failure_of_the_arm(folder):
    with pytest.raises(CheckpointError):
        run(folder, {("a", 1)}, CheckpointError)
    assert run(folder) == ({}, [("a", 1), ("b", 0, 1)])
