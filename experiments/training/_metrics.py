"""One JSON record a line, and a file that a resumed run continues as if it had never stopped."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments._folder import FolderError
from experiments.training._manifest import CheckpointError


class MetricsLog:
    """Append records to a file; a resumed run first drops what its checkpoint does not know of.

    The number of records belongs into the checkpoint's position: ``save(state, {"records":
    log.sync(), ...})`` and, on resume, ``MetricsLog(path, records=position["records"])``. Records
    beyond that number, and a last line that a kill tore, are cut off; the resumed run writes them
    again.

    Args:
      path: the file, usually ``metrics.jsonl``.
      records: complete records to keep, from a checkpoint; None begins a new file.

    Raises:
      FileExistsError: a new file is asked for and there is one that is not empty.
      CheckpointError: the file has fewer complete records than the checkpoint says.

    Example:
      >>> import tempfile, pathlib
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "metrics.jsonl"
      >>> with MetricsLog(path) as log:
      ...     log.write({"epoch": 0, "loss": 2.5})
      ...     log.write({"epoch": 1, "loss": float("nan")})
      >>> print(path.read_text(), end="")
      {"epoch": 0, "loss": 2.5}
      {"epoch": 1, "loss": null}
      >>> with MetricsLog(path, records=1) as log:
      ...     log.records
      1
    """

    def __init__(self, path: str | os.PathLike, records: int | None = None):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        size = self.path.stat().st_size if self.path.exists() else 0
        if records is None and size:
            raise FileExistsError(
                f"{self.path} already holds records. Resume that run, or write to another folder."
            )
        if records is not None:
            os.truncate(self.path, self._end_of(records)) if size else self._end_of(records)
        self.records = records or 0
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def _end_of(self, records: int) -> int:
        """Return the offset in bytes behind that many complete lines."""
        content = self.path.read_bytes() if self.path.exists() else b""
        end = 0
        for found in range(records):
            end = content.find(b"\n", end) + 1
            if end == 0:
                raise CheckpointError(
                    f"{self.path} has {found} complete records, but the checkpoint was written after "
                    f"{records}. It is not the file of this run, or it was cut: put the right one back or start afresh."
                )
        return end

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record in one system call; arrays become numbers or lists, NaN and Inf become null."""
        line = json.dumps(_plain(record), allow_nan=False) + "\n"
        os.write(self._file, line.encode())
        self.records += 1

    def sync(self) -> int:
        """Force the records to the disk and return how many there are; do it before a save."""
        os.fsync(self._file)
        return self.records

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the complete records of ``metrics.jsonl``; a kill may have torn the last line.

    Raises:
      FolderError: a line is no record.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            record = json.loads(line)
            record["kind"], record["arm"], record["seed"]
        except (ValueError, KeyError, TypeError):
            raise FolderError(
                f"Line {number} of {path} is not a record of this run, so the run cannot be resumed; put the "
                "right file back, or pass another --out DIR."
            ) from None
        records.append(record)
    return records


def _plain(value):
    """Return ``value`` as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
