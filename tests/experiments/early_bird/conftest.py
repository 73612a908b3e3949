"""Tiny runs of the experiment, made once and read by many tests."""

import pytest

from experiments.early_bird.__main__ import main
from tests.experiments import runs
from tests.experiments.runs import Run

TINY = (
    *("--model", "digits_mlp", "--limit", "640", "--epochs", "4", "--window", "2"),
    *("--learning_rate", "0.1", "--milestones", "3", "--epsilon", "0.3", "--driver", "loop"),
    *("--draw_epochs", "1", "2", "--prune_ratios", "0.3"),
)

call = runs.caller(main)


@pytest.fixture(scope="session")
def early_bird():
    """``early_bird(folder, *argv)`` runs the experiment here; ``early_bird.tiny`` are flags for a small one."""
    call.tiny = TINY
    return call


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Run:
    """All methods, two seeds, one ratio, two draws."""
    return call(tmp_path_factory.mktemp("tiny") / "run", *TINY, "--seeds", "2")
