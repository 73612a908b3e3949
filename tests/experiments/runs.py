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

    def untimed(self, *timed: str) -> list[dict[str, Any]]:
        """All records without some fields: what two runs have in common."""
        return [{k: v for k, v in record.items() if k not in timed} for record in self.records]

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


def caller(main: Callable[[list[str]], int], *flags: str) -> Callable[..., Run]:
    """Return ``call(path, *argv)``, which runs an experiment with these flags and those of a test."""
    return lambda path, *argv: call(main, path, *flags, *argv)


def succeeded(run: Run) -> Run:
    """Return a run that ended well and had nothing to complain about."""
    assert (run.code, run.err) == (0, "")
    return run


def cut(run: Run, at: int, path: Path, *kept: str) -> Path:
    """Leave in a new folder what a kill after so many records would have left, checkpoints lost but for those named."""
    for name in ("config.json", *kept):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes((run.path / name).read_bytes())
    lines = (run.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (path / "metrics.jsonl").write_text("".join(lines[:at]))
    return path


def check_refused(run: Run, sentence: str) -> None:
    """Check that a wrong call got its sentence and left no folder."""
    assert run.code == 2
    assert sentence in " ".join(run.err.split())
    assert not run.path.exists()
