"""The frame of every experiment: command line, folder, progress, and what ends a run early."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from experiments._cli import RunConfig, fail, parse
from experiments._folder import FolderError, RunFolder
from experiments._progress import Progress
from experiments.training import CheckpointError

C = TypeVar("C", bound=RunConfig)


class Job(Protocol):
    """An experiment that is ready to run."""

    @property
    def phases(self) -> int:
        """How many phases the progress display will show."""

    def run(self, folder: RunFolder, progress: Progress) -> dict[str, str]:
        """Run every arm; return why arms failed."""

    def report(self, folder: RunFolder, failures: Mapping[str, str], seconds: float) -> int:
        """Write summary and report; return the exit code."""


def launch(
    name: str,
    config_type: type[C],
    presets: Mapping[str, C],
    prepare: Callable[[C], Job],
    argv: Sequence[str] | None = None,
    *,
    description: str,
    about: Mapping[str, str],
) -> int:
    """Run an experiment from its command line.

    Args:
      name: of the experiment, as in ``python -m experiments.NAME``.
      config_type: its frozen dataclass.
      presets: for each name its settings.
      prepare: load data and build programs; a ``ValueError`` of it is a wrong call, and leaves no folder.
      argv: the arguments; by default those of the process.
      description: for the help.
      about: for each preset one line for the help.

    Returns:
      What ``report`` says: 0 where every arm finished, 1 where one failed; 130 for an interruption.

    Raises:
      SystemExit: with code 2 and a sentence, for a wrong call or a folder that cannot be used.
    """
    prog = f"python -m experiments.{name}"
    config = parse(config_type, presets, argv, prog=prog, description=description, about=about)
    begin = time.perf_counter()
    try:
        RunFolder.check(name, config)
        job = prepare(config)
        folder = RunFolder.open(name, config, argv)
    except (FolderError, FileNotFoundError, ImportError, ValueError) as error:
        fail(prog, str(error))
    try:
        with Progress(phases=job.phases) as progress:
            for note in folder.notes:
                progress.note(note)
            failures = job.run(folder, progress)
    except (FolderError, CheckpointError) as error:
        fail(prog, str(error))
    except KeyboardInterrupt:
        sys.stderr.write(f"{prog}: interrupted; the same command with --resume goes on.\n")
        return 130
    code = job.report(folder, failures, time.perf_counter() - begin)
    for arm, why in failures.items():
        sys.stderr.write(f"{prog}: arm {arm} failed: {why}\n")
    return code
