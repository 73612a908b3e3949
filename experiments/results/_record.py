"""A finished run as one JSON file: numbers of every seed, and what made them."""

import json
import re
from pathlib import Path
from typing import Any

from experiments._records import canonical

RESULTS = Path("results")

_FROM_CONFIG = ("experiment", "command", "config", "versions", "hardware")
_FROM_SUMMARY = ("seeds", "tables")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class ResultError(Exception):
    """A run or a file that is no result; the message is a sentence for the command line."""


def add(run: Path, name: str | None = None, folder: Path = RESULTS) -> Path:
    """Copy what a finished run measured into ``folder/NAME.json``.

    Args:
      run: a run's folder, with its ``config.json`` and ``summary.json``.
      name: lower-case letters, digits, ``_`` and ``-``; by default the run folder's name.
      folder: where results are kept.

    Returns:
      The file that was written.

    Raises:
      ResultError: the run has not finished, an arm of it failed, it was resumed on other hardware or
        versions, or a file cannot be read.
    """
    name = run.name if name is None else name
    if not _NAME.fullmatch(name):
        raise ResultError(
            f"{name!r} is no name for a result: use lower-case letters, digits, _ and -, by --name."
        )
    config, summary = _load(run / "config.json"), _load(run / "summary.json")
    if summary.get("failures"):
        failed = ", ".join(summary["failures"])
        raise ResultError(f"In {run} these arms failed: {failed}. Run it again, or without them.")
    for start in config.get("resumed", []):
        for kind in ("versions", "hardware"):
            if start[kind] != config[kind]:
                raise ResultError(
                    f"{run} was resumed on other {kind} than it began on, so that its numbers have no one "
                    "origin. Run it again."
                )
    record = {
        **{key: _entry(config, key, run / "config.json") for key in _FROM_CONFIG},
        **{key: _entry(summary, key, run / "summary.json") for key in _FROM_SUMMARY},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(canonical(record), encoding="utf-8")
    return path


def read(path: Path) -> dict[str, Any]:
    """Return the record in a file that `add` wrote.

    Raises:
      ResultError: it is none.
    """
    record = _load(path)
    for key in (*_FROM_CONFIG, *_FROM_SUMMARY):
        _entry(record, key, path)
    return record


def _load(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultError(f"{path} is not there: only a finished run is a result.") from None
    except ValueError:
        raise ResultError(f"{path} is not JSON; write it again with --add.") from None
    if not isinstance(record, dict):
        raise ResultError(f"{path} is not the record of a run; write it again with --add.")
    return record


def _entry(record: dict[str, Any], key: str, path: Path) -> Any:
    if key not in record:
        raise ResultError(
            f"{path} has no {key!r}, which every result has; run the experiment again."
        )
    return record[key]
