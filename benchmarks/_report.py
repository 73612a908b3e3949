"""What a benchmark says: a short table, and the same as JSON."""

import argparse
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks._rows import HEAD, Row, duration
from experiments._provenance import command_line, hardware, versions


def parser(
    doc: str | None, rounds: int | None = None, seconds: float | None = None
) -> argparse.ArgumentParser:
    """Return the flags that every benchmark has.

    Args:
      doc: the module's docstring, shown by ``--help``.
      rounds: default number of timed rounds; None where nothing is timed.
      seconds: default time after which no round begins, for each table of contenders.
    """
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if rounds is not None:
        made.add_argument("--rounds", type=int, default=rounds, help="timed rounds (%(default)s)")
        made.add_argument(
            "--seconds",
            type=float,
            default=seconds,
            help="begin no round later than this (%(default)s)",
        )
    made.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    return made


class Report:
    """Collect rows and notes; then print them and write them.

    Args:
      module: what follows ``python -m``.
      argv: the command's arguments, None for the process's own.
    """

    def __init__(self, module: str, argv: Sequence[str] | None):
        self._module = module
        self._command = command_line(module, argv)
        self._load = [_load()]
        self.rows: list[Row] = []
        self.notes: dict[str, float | str] = {}

    def add(self, *rows: Row) -> None:
        """Append rows, and say each on stderr: the table comes when all is measured, minutes later."""
        self.rows.extend(rows)
        for row in rows:
            print(*row.cells()[:2], row.verdict, file=sys.stderr, flush=True)

    def note(self, name: str, value: float | str) -> None:
        """Append a number or a sentence that is no ratio; floats are seconds."""
        self.notes[name] = value

    def finish(self, path: Path | None) -> list[Row]:
        """Print the table, write it to ``path`` if there is one, and return the rows."""
        self._load.append(_load())
        print(self.text())
        if path is not None:
            path.write_text(json.dumps(self.record(), indent=2, allow_nan=False) + "\n")
        return self.rows

    def text(self) -> str:
        """Return the table."""
        hard = hardware()
        software = ", ".join(f"{name} {version}" for name, version in _versions().items())
        load = " to ".join("unknown" if x is None else f"{x:.1f}" for x in self._load)
        table = [HEAD, *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            self._command,
            f"{hard['device_kind']} ({hard['backend']}), {hard['cpu']}, {hard['cpu_cores']} cores; {software}",
            f"load average (1 min) {load}",
            "",
            *("  ".join(map(str.ljust, line, widths)).rstrip() for line in table),
            *([""] if self.notes else []),
        ]
        for name, value in self.notes.items():
            lines.append(f"{name}: {duration(value) if isinstance(value, float) else value}")
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """Return what the JSON file holds."""
        return {
            "benchmark": self._module,
            "command": self._command,
            "versions": _versions(),
            "hardware": hardware(),
            "load_average_before_and_after": self._load,
            "rows": [
                {**dataclasses.asdict(row), "holds": row.holds, "decided": row.decided}
                for row in self.rows
            ],
            "notes": self.notes,
        }


def _versions() -> dict[str, str]:
    found = versions()
    with contextlib.suppress(metadata.PackageNotFoundError):
        found["torch"] = metadata.version("torch")
    return found


def _load() -> float | None:
    """Return how many processes want to run, averaged over a minute; None where unknown."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None
