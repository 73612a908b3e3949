"""Tiny runs of the main job, made once and read by many tests."""

import pytest

from experiments.worm.__main__ import main
from tests.experiments import runs
from tests.experiments.runs import Run

TINY = (
    *("--model", "digits_mlp", "--limit", "64", "--epochs", "5", "--search_cap", "4"),
    *("--window", "2", "--learning_rate", "0.1", "--target", "0.375", "--driver", "loop"),
    *("--speed_rounds", "4"),
)

call = runs.caller(main)


@pytest.fixture(scope="session")
def worm():
    """``worm(folder, *argv)`` runs the main job here; ``worm.tiny`` are flags for a small one."""
    call.tiny = TINY
    return call


@pytest.fixture(scope="session")
def seven(tmp_path_factory) -> Run:
    """All arms and two seeds, seed by seed."""
    return call(tmp_path_factory.mktemp("seven") / "run", *TINY, "--seeds", "2")


@pytest.fixture(scope="session")
def scanned(tmp_path_factory) -> Run:
    """Three of the arms with the same settings, an epoch a scan and seeds by vmap."""
    some = ("--arms", "dense", "standard", "worm", "--seeds", "2")
    return call(tmp_path_factory.mktemp("scanned") / "run", *TINY, *some, "--driver", "scan")


@pytest.fixture(scope="session")
def without_ticket(tmp_path_factory) -> Run:
    """Masks must agree to the last entry, and never do."""
    never = ("--arms", "standard", "--seeds", "1", "--epsilon", "0", "--search_cap", "2")
    return call(tmp_path_factory.mktemp("without") / "run", *TINY, *never)
