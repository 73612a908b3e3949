"""Tiny runs of the experiment, made once and read by many tests."""

import contextlib
import dataclasses
import functools
import io
import json
from pathlib import Path
from typing import Any

import pytest

from experiments.early_bird.__main__ import main

TINY = (
    *("--model", "digits_mlp", "--limit", "640", "--epochs", "4", "--window", "2"),
    *("--learning_rate", "0.1", "--milestones", "3", "--epsilon", "0.3", "--driver", "loop"),
    *("--draw_epochs", "1", "2", "--prune_ratios", "0.3"),
)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of the experiment: its folder, exit code and what it printed."""

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

    def measured(self, arm: str, key: str) -> list[Any]:
        """A metric of an arm, seed by seed."""
        [record] = [r for r in self.summary["arms"] if r["arm"] == arm]
        return record["metrics"][key]["seeds"]

    def epochs(self, arm: str, seed: int) -> list[dict[str, Any]]:
        """The epoch records of an arm and seed."""
        return [r for r in self.records if (r["kind"], r["arm"], r["seed"]) == ("epoch", arm, seed)]

    def result(self, arm: str, seed: int) -> dict[str, Any]:
        """The result record of an arm and seed."""
        [record] = [
            r for r in self.records if (r["kind"], r["arm"], r["seed"]) == ("result", arm, seed)
        ]
        return record


def call(path: Path, *argv: str) -> Run:
    """Run the experiment in this process, also where it leaves by `SystemExit`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(["--out", str(path), *argv])
        except SystemExit as stop:
            code = stop.code
    return Run(path, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def early_bird():
    """``early_bird(folder, *argv)`` runs the experiment here; ``early_bird.tiny`` are flags for a small one."""
    call.tiny = TINY
    return call


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Run:
    """All methods, two seeds, one ratio, two draws."""
    return call(tmp_path_factory.mktemp("tiny") / "run", *TINY, "--seeds", "2")
