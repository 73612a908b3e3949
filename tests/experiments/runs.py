"""Runs of an experiment in this process, as tests look at them."""

import contextlib
import dataclasses
import functools
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Run:
    """A run: its folder, exit code and what it printed."""

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

    def epochs(self, arm: str, seed: int, phase: str | None = None) -> list[dict[str, Any]]:
        """The epoch records of an arm and seed, of one phase or of all, in the file's order."""
        mine = ("epoch", arm, seed)
        found = [r for r in self.records if (r["kind"], r["arm"], r["seed"]) == mine]
        return [r for r in found if phase in (None, r["phase"])]

    def result(self, arm: str, seed: int) -> dict[str, Any]:
        """The result record of an arm and seed."""
        [record] = [
            r for r in self.records if (r["kind"], r["arm"], r["seed"]) == ("result", arm, seed)
        ]
        return record


def call(main: Callable[[list[str]], int], path: Path, *argv: str) -> Run:
    """Run an experiment, also where it leaves by `SystemExit`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(["--out", str(path), *argv])
        except SystemExit as stop:
            code = stop.code
    return Run(path, code, out.getvalue(), err.getvalue())
