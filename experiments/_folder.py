"""The folder of one run: what is in it, when it may be used, and files that are never half written."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments._cli import RunConfig
from experiments._provenance import command_line, hardware, versions
from experiments._records import canonical, plain

_WHERE = ("out", "resume")  # fields that say where and how, not what is computed


class FolderError(Exception):
    """A folder that a run must not use; the message is a sentence for the command line."""


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Paths and files of one run.

    Attributes:
      path: the folder.
      resumed: True where an earlier start left a ``config.json`` that equals the present config.
      notes: sentences for the user, such as versions that differ from those of the first start.
      writes: True on process 0, the only one that writes; elsewhere every ``write_`` does nothing.
    """

    path: Path
    resumed: bool = False
    notes: tuple[str, ...] = ()
    writes: bool = True

    @classmethod
    def open(
        cls,
        experiment: str,
        config: RunConfig,
        argv: Sequence[str] | None = None,
        *,
        process_index: int | None = None,
    ) -> "RunFolder":
        """Make or reopen the folder of a run and write its ``config.json``.

        The folder is ``config.out``, or ``runs/EXPERIMENT-PRESET``. A folder with anything in it is
        refused unless ``config.resume`` is set and its ``config.json`` equals the present config;
        ``--resume`` on an empty or missing folder starts afresh, so that a restart loop may always
        pass it. Each resume adds its command, versions and hardware to ``config.json``.

        Args:
          experiment: the experiment's name, such as ``"worm"``.
          config: its config.
          argv: the command line's arguments for the record; by default those of the process.
          process_index: by default JAX's. A process other than 0 neither checks nor writes, and
            takes ``config.resume`` for ``resumed``.

        Returns:
          The opened folder.

        Raises:
          FolderError: the folder is not empty, belongs to another config or experiment, holds a
            ``config.json`` that cannot be read, or cannot be made.
        """
        path = _place(experiment, config)
        process = jax.process_index() if process_index is None else process_index
        if process != 0:
            return cls(path, resumed=config.resume, writes=False)
        settings = _settings(config)
        record = _found(path, experiment, settings, config.resume)
        command = command_line(f"experiments.{experiment}", argv)
        start = {"command": command, "versions": versions(), "hardware": hardware()}
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FolderError(
                f"{path} cannot be made ({error.strerror}); pass another --out DIR."
            ) from None
        folder = cls(path)
        if record is None:
            record = {"experiment": experiment, "config": settings, **start, "resumed": []}
            folder._write(folder.config, canonical(record))
            return folder
        record["resumed"].append(start)
        folder._write(folder.config, canonical(record))
        return dataclasses.replace(folder, resumed=True, notes=_changes(record, start))

    @classmethod
    def check(cls, experiment: str, config: RunConfig, *, process_index: int | None = None) -> None:
        """Refuse a folder as ``open`` would, and write nothing.

        For a program that wants to know before its slow preparations, and whose preparations may
        still refuse the config: what ``open`` leaves behind could then only be resumed.

        Args:
          experiment: as for ``open``.
          config: as for ``open``.
          process_index: as for ``open``.

        Raises:
          FolderError: as for ``open``, except that the folder is not made.
        """
        process = jax.process_index() if process_index is None else process_index
        if process == 0:
            _found(_place(experiment, config), experiment, _settings(config), config.resume)

    @property
    def config(self) -> Path:
        """``config.json``: experiment, config, command, versions, hardware, and later resumes."""
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        """``metrics.jsonl``: one record per line, appended while the run goes on."""
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        """``summary.json``: one record per arm."""
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        """``report.html``: the report, in one file."""
        return self.path / "report.html"

    @property
    def checkpoints(self) -> Path:
        """``checkpoints/``; its owner makes it."""
        return self.path / "checkpoints"

    @property
    def figures(self) -> Path:
        """``figures/``; ``report.save_figure`` makes it."""
        return self.path / "figures"

    def provenance(self) -> dict[str, Any]:
        """Return what ``config.json`` holds: config, command, versions and hardware."""
        return json.loads(self.config.read_text(encoding="utf-8"))

    def records(self) -> list[dict[str, Any]]:
        """Return the complete records of ``metrics.jsonl``; a kill may have torn the last line.

        Raises:
          FolderError: a line is no record: it lacks a kind, an arm or a seed.
        """
        if not self.metrics.exists():
            return []
        records = []
        for number, line in enumerate(self.metrics.read_bytes().split(b"\n")[:-1], start=1):
            try:
                record = json.loads(line)
                record["kind"], record["arm"], record["seed"]
            except (ValueError, KeyError, TypeError):
                raise FolderError(
                    f"Line {number} of {self.metrics} is not a record of this run, so the run cannot be resumed; "
                    "put the right file back, or pass another --out DIR."
                ) from None
            records.append(record)
        return records

    def write_summary(self, record: Any) -> None:
        """Write ``summary.json`` from a record of any values that ``plain`` knows."""
        self._write(self.summary, canonical(record))

    def write_report(self, page: str) -> None:
        """Write ``report.html``."""
        self._write(self.report, page)

    def _write(self, path: Path, text: str) -> None:
        """Replace a file in one step: a reader, or a kill, sees the old one or the new one."""
        if not self.writes:
            return
        draft = path.with_name(f".{path.name}.tmp")
        with draft.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)


def _place(experiment: str, config: RunConfig) -> Path:
    return config.out or Path("runs") / f"{experiment}-{config.preset}"


def _settings(config: RunConfig) -> dict[str, Any]:
    fields = [f.name for f in dataclasses.fields(config) if f.name not in _WHERE]
    return plain({name: getattr(config, name) for name in fields}, "config")


def _found(
    path: Path, experiment: str, settings: Mapping[str, Any], resume: bool
) -> dict[str, Any] | None:
    """Return the record of the run to go on with, None where a new one begins, or refuse the folder."""
    _check_usable(path, resume)
    if not (path / "config.json").exists():
        return None
    record = _read_config(path / "config.json", experiment)
    _check_equal(path, record["config"], settings)
    return record


def _check_usable(path: Path, resume: bool) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise FolderError(f"{path} is a file, not a folder; pass another --out DIR.")
    # A draft is all that a start killed in its first moment leaves behind.
    if all(name.startswith(".") and name.endswith(".tmp") for name in os.listdir(path)):
        return
    if not resume:
        raise FolderError(
            f"{path} is not empty; pass --resume to go on with the run in it, or another --out DIR."
        )
    if not (path / "config.json").exists():
        raise FolderError(
            f"{path} has files but no config.json, so there is no run to resume in it; pass another "
            "--out DIR."
        )


def _read_config(path: Path, experiment: str) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found, _, _ = record["experiment"], record["config"].items(), record["resumed"].append
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FolderError(
            f"{path} cannot be read as the record of a run, so the run cannot be resumed; pass "
            "another --out DIR."
        ) from None
    if found != experiment:
        raise FolderError(
            f"{path.parent} holds a run of {found!r}, not of {experiment!r}; pass another --out DIR."
        )
    return record


def _check_equal(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    old, new = _flat(before), _flat(now)
    changed = [
        f"{name} ({_shown(old, name)} in the folder, {_shown(new, name)} now)"
        for name in sorted(old.keys() | new.keys())
        if _shown(old, name) != _shown(new, name)
    ]
    if changed:
        raise FolderError(
            f"{path} holds a run with other settings: {'; '.join(changed)}. Resume with the settings "
            "in its config.json, or pass another --out DIR."
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _shown(values: Mapping[str, Any], name: str) -> str:
    # As JSON text: 1 and 1.0, or True and 1, are equal in Python and not the same setting.
    return json.dumps(values[name], ensure_ascii=False) if name in values else "absent"


def _changes(record: Mapping[str, Any], start: Mapping[str, Any]) -> tuple[str, ...]:
    before = _flat({kind: record.get(kind, {}) for kind in ("versions", "hardware")})
    now = _flat({kind: start[kind] for kind in ("versions", "hardware")})
    return tuple(
        f"{name} was {_shown(before, name)} at the run's first start and is {_shown(now, name)}; "
        "results may not repeat bit for bit."
        for name in sorted(before.keys() | now.keys())
        if _shown(before, name) != _shown(now, name)
    )
