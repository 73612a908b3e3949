"""What a benchmark says: a short table, and the same as JSON."""

import argparse
import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

from benchmarks._timing import Ratio, Samples
from experiments._provenance import command_line, hardware, versions


@dataclasses.dataclass(frozen=True)
class Row:
    """One ratio.

    Attributes:
      name: what is compared, "this / that".
      ratio: this over that.
      target: the bound that the ratio is to keep, or None where it only informs.
      at_least: whether the target is a lower bound.
      seconds: median times of this and that, or None where the ratio is not one of times.
    """

    name: str
    ratio: Ratio
    target: float | None = None
    at_least: bool = False
    seconds: tuple[float, float] | None = None

    @classmethod
    def timed(
        cls,
        name: str,
        samples: Samples,
        over: str,
        under: str,
        target: float | None = None,
        at_least: bool = False,
    ) -> "Row":
        """Make the row of two contenders that were timed in turn."""
        times = (samples.median(over), samples.median(under))
        return cls(name, samples.ratio(over, under), target, at_least, times)

    @classmethod
    def counted(cls, name: str, over: float, under: float, target: float | None = None) -> "Row":
        """Make the row of two numbers that no clock was needed for, such as bytes."""
        return cls(name, Ratio.of([over / under]), target)

    @property
    def holds(self) -> bool | None:
        """Whether the median keeps the target; None without a target."""
        if self.target is None:
            return None
        return (
            self.ratio.median >= self.target if self.at_least else self.ratio.median <= self.target
        )

    @property
    def decided(self) -> bool:
        """Whether the interval of the median lies on one side of the target."""
        low, high = self.ratio.interval
        return self.target is None or not low <= self.target <= high or low == high

    @property
    def verdict(self) -> str:
        """``yes`` or ``no``; with a question mark where the noise could have decided it."""
        if self.holds is None:
            return ""
        return ("yes" if self.holds else "no") + ("" if self.decided else "?")


def parser(doc: str | None, rounds: int, seconds: float) -> argparse.ArgumentParser:
    """Return the flags that every benchmark has.

    Args:
      doc: the module's docstring, shown by ``--help``.
      rounds: default number of timed rounds.
      seconds: default time after which no round begins, for each table of contenders.
    """
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--rounds", type=int, default=rounds, help="timed rounds (%(default)s)")
    made.add_argument(
        "--seconds",
        type=float,
        default=seconds,
        help="begin no round later than this (%(default)s)",
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    return made


def find_torch() -> ModuleType | None:
    """Return PyTorch where it can be compared with, and say in a sentence why not elsewhere."""
    if jax.default_backend() != "cpu":
        print("PyTorch is compared with on CPU only: its rows are skipped.")
        return None
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed: its rows are skipped (pip install torch).")
        return None
    return torch


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
        self.notes: dict[str, Any] = {}

    def add(self, *rows: Row) -> None:
        """Append rows."""
        self.rows.extend(rows)

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
        software = ", ".join(f"{k} {v}" for k, v in _versions().items())
        head = (
            "ratio",
            "median",
            "min-max",
            "95% of median",
            "rounds",
            "seconds",
            "target",
            "holds",
        )
        table = [head, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in table) for i in range(len(head))]
        lines = [
            self._command,
            f"{hard['device_kind']} ({hard['backend']}), {hard['cpu']}, {hard['cpu_cores']} cores; {software}",
            f"load average (1 min) {_loads(self._load)}",
            "",
            *(
                "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()
                for line in table
            ),
        ]
        if self.notes:
            lines += ["", *(f"{name}: {_short(value)}" for name, value in self.notes.items())]
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


def _cells(row: Row) -> tuple[str, ...]:
    ratio = row.ratio
    exact = ratio.rounds == 1 and row.seconds is None
    bound = "" if row.target is None else f"{'>=' if row.at_least else '<='} {_number(row.target)}"
    return (
        row.name,
        _number(ratio.median),
        "" if exact else f"{_number(ratio.low)}-{_number(ratio.high)}",
        "" if exact else f"{_number(ratio.interval[0])}-{_number(ratio.interval[1])}",
        "" if exact else str(ratio.rounds),
        "" if row.seconds is None else " / ".join(map(_time, row.seconds)),
        bound,
        row.verdict,
    )


def _number(value: float) -> str:
    """Write three decimals around one, three figures elsewhere."""
    return f"{value:.3f}" if 0.1 <= value < 10 else f"{value:.3g}"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _short(value: float | str) -> str:
    return _time(value) if isinstance(value, float) else value


def _versions() -> dict[str, str]:
    found = versions()
    with contextlib.suppress(metadata.PackageNotFoundError):
        found["torch"] = metadata.version("torch")
    return found


def _load() -> float | None:
    """Return the number of processes that want to run, averaged over a minute; None where unknown."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def _loads(values: Sequence[float | None]) -> str:
    return " to ".join("unknown" if v is None or math.isnan(v) else f"{v:.1f}" for v in values)
