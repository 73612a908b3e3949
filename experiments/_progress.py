"""Progress of a run: live bars in a terminal, plain lines elsewhere, nothing on other processes."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

import jax
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars

Figure = float | int | str


class Progress:
    """Shows the phases of a run as they advance; use it as a context manager.

    In a terminal each running phase is a bar, and becomes a line above the bars when it ends.
    Elsewhere a phase prints one line when it ends, and while it runs one at most every ``interval``
    seconds. On a process other than 0 nothing is printed.

    Args:
      phases: how many phases the whole run has, for a bar over all of them; None leaves it out.
      stream: where to print; by default the standard output.
      interval: least time between two plain lines of one phase, in seconds.
      process_index: by default JAX's.
      clock: a clock in seconds, for tests.

    Example:
      >>> import io
      >>> stream = io.StringIO()
      >>> with Progress(stream=stream, clock=lambda: 0.0) as progress:
      ...     with progress.phase("worm", "search", seed=0, total=20) as phase:
      ...         phase.advance(8, distance=0.0625)
      >>> print(stream.getvalue(), end="")
      worm, seed 0, search: 8/20 epochs, distance 0.0625, done in 0.0 s
    """

    def __init__(
        self,
        phases: int | None = None,
        *,
        stream: TextIO | None = None,
        interval: float = 10.0,
        process_index: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        process = jax.process_index() if process_index is None else process_index
        self._stream = (stream or sys.stdout) if process == 0 else None
        self._interval = interval
        self._clock = clock
        self._phases = phases
        self._bars: Bars | None = None
        self._overall: TaskID | None = None

    @property
    def width(self) -> int:
        """Characters in a line, for tables printed with ``note``."""
        return self._bars.console.width if self._bars else 100

    def __enter__(self) -> Self:
        if self._stream is not None and self._stream.isatty():
            console = Console(file=self._stream)
            if not console.is_dumb_terminal:
                self._bars = _bars(console)
                self._bars.start()
                if self._phases is not None:
                    self._overall = self._bars.add_task("all", total=self._phases, figures="")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def note(self, text: str) -> None:
        """Print ``text`` on a line of its own, above the bars."""
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif self._stream is not None:
            self._stream.write(text + "\n")
            self._stream.flush()

    def phase(
        self,
        arm: str,
        name: str,
        *,
        seed: int | str | None = None,
        total: int | None = None,
        unit: str = "epochs",
    ) -> "Phase":
        """Begin a phase, such as the search of one arm and seed.

        Args:
          arm: the arm.
          name: the phase, such as ``"search"``.
          seed: the seed, or text such as ``"0 to 2"`` for seeds that run together.
          total: how many units the phase takes at most; None where it is not known.
          unit: what is counted.

        Returns:
          A ``Phase``, to be used as a context manager.
        """
        parts = [arm, *([] if seed is None else [f"seed {seed}"]), name]
        return Phase(self, ", ".join(parts), total, unit)


class Phase:
    """One running phase; made by ``Progress.phase``."""

    def __init__(self, progress: Progress, label: str, total: int | None, unit: str):
        self._progress = progress
        self._label = label
        self._total = total
        self._unit = unit
        self._done = 0
        self._figures: dict[str, Figure] = {}
        self._start = self._printed = progress._clock()
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        bars = self._progress._bars
        if bars is not None:
            self._task = bars.add_task(self._label, total=self._total, figures="")
        return self

    def advance(self, units: int = 1, **figures: Figure) -> None:
        """Count ``units`` more, and show figures such as ``accuracy=0.97`` beside them."""
        self._done += units
        self._figures.update(figures)
        if self._progress._bars is not None and self._task is not None:
            shown = ", ".join(self._shown())
            self._progress._bars.update(self._task, completed=self._done, figures=shown)
        elif self._progress._clock() - self._printed >= self._progress._interval:
            self._printed = self._progress._clock()
            self._progress.note(self._line())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        seconds = self._progress._clock() - self._start
        ending = "done" if kind is None else f"failed ({kind.__name__})"
        bars = self._progress._bars
        if bars is not None and self._task is not None:
            bars.remove_task(self._task)
            if self._progress._overall is not None:
                bars.advance(self._progress._overall)
        self._progress.note(f"{self._line()}, {ending} in {seconds:.1f} s")

    def _line(self) -> str:
        count = f"{self._done}" if self._total is None else f"{self._done}/{self._total}"
        return ", ".join([f"{self._label}: {count} {self._unit}", *self._shown()])

    def _shown(self) -> list[str]:
        return [
            f"{name.replace('_', ' ')} {value:.4g}"
            if isinstance(value, float)
            else f"{name.replace('_', ' ')} {value}"
            for name, value in self._figures.items()
        ]


def _bars(console: Console) -> Bars:
    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeElapsedColumn(),
        console=console,
    )
