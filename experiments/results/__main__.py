"""Run ``python -m experiments.results``: every table of ``results/`` from the JSON there."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from experiments._cli import fail
from experiments.results._record import RESULTS, ResultError, add, read
from experiments.results._table import page

PROG = "python -m experiments.results"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultsConfig:
    """Write a table (.md) beside every result (.json) of a folder; first add a finished run's, if one is named."""

    add: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """A finished run's folder, such as runs/worm-digits, whose numbers become a result."""

    name: str | None = None
    """Name of that result; by default the run folder's."""

    folder: Annotated[Path, tyro.conf.arg(metavar="DIR")] = RESULTS
    """Where results are kept."""


def main(argv: Sequence[str] | None = None) -> int:
    """Add a run where one is named, and write all tables; 2 for a wrong call."""
    config = tyro.cli(ResultsConfig, prog=PROG, args=argv, use_underscores=True)
    try:
        if config.name is not None and config.add is None:
            raise ResultError("--name goes with --add RUN, whose result it names.")
        if config.add is not None:
            sys.stdout.write(f"{add(config.add, config.name, config.folder)}\n")
        found = sorted(config.folder.glob("*.json"))
        if not found:
            raise ResultError(f"There is no result in {config.folder}; add one with --add RUN.")
        for path in found:
            table = path.with_suffix(".md")
            table.write_text(page(read(path), path.name), encoding="utf-8")
            sys.stdout.write(f"{table}\n")
    except ResultError as error:
        fail(PROG, str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
