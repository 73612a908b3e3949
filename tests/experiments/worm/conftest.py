"""Tiny runs of the main job, made once and read by many tests."""

import contextlib
import dataclasses
import functools
import io
import json
from pathlib import Path
from typing import Any

import pytest

from experiments.worm.__main__ import main

TINY = (
    *("--model", "digits_mlp", "--limit", "64", "--epochs", "5", "--search_cap", "4"),
    *("--window", "2", "--learning_rate", "0.1", "--target", "0.375", "--driver", "loop"),
    *("--speed_rounds", "4"),
)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of the main job: its folder, exit code and what it printed."""

    path: Path
    code: int
    out: str
    err: str

    @functools.cached_property
    def records(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``."""
        return [json.loads(line) for line in (self.path / "metrics.jsonl").read_text().splitlines()]

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` holds."""
        return json.loads((self.path / "summary.json").read_text())

    def measured(self, arm: str, key: str) -> dict[str, Any]:
        """A metric of an arm in ``summary.json``."""
        [record] = [r for r in self.summary["arms"] if r["arm"] == arm]
        return record["metrics"][key]

    def epochs(self, arm: str, seed: int, phase: str) -> list[dict[str, Any]]:
        """The epoch records of an arm, seed and phase, in the file's order."""
        mine = (arm, seed, phase)
        return [r for r in self.records if (r["arm"], r["seed"], r.get("phase")) == mine]

    def result(self, arm: str, seed: int) -> dict[str, Any]:
        """The result record of an arm and seed."""
        [record] = [
            r for r in self.records if (r["kind"], r["arm"], r["seed"]) == ("result", arm, seed)
        ]
        return record


def call(path: Path, *argv: str) -> Run:
    """Run the main job in this process, also where it leaves by `SystemExit`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(["--out", str(path), *argv])
        except SystemExit as stop:
            code = stop.code
    return Run(path, code, out.getvalue(), err.getvalue())


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
