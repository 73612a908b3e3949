"""Wall time by what it was spent on: compiling, training, evaluating, detecting."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax

T = TypeVar("T")


class Span:
    """One stretch of time of a phase.

    Attributes:
      seconds: how long it was, without compilation; 0 until it is over.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._pending: list[Any] = []

    def wait(self, result: T) -> T:
        """Have the stretch end no earlier than these arrays are there, and return them.

        Args:
          result: any pytree; what is no array is ready.
        """
        self._pending.append(result)
        return result


class PhaseClock:
    """Adds up the wall time of phases, compilation apart.

    JAX returns before it has computed: a phase ends when what its span was given is ready
    (`jax.block_until_ready`), and only then is the clock read. What was compiled within a phase counts as
    ``"compile"`` and not as that phase, so that a first epoch is no longer than a second.

    Args:
      compiling: returns the seconds that compiling took so far, such as ``lambda: program.seconds`` of a function
        that is compiled ahead of time; what it says at the beginning is not counted. Without it compilation
        counts where it happens.
      clock: what tells the time, in seconds.

    Attributes:
      seconds: by phase, in order of appearance, ``"compile"`` first.

    Example:
      >>> import jax.numpy as jnp
      >>> clock = PhaseClock()
      >>> for epoch in range(2):
      ...     with clock("train") as span:
      ...         x = span.wait(jnp.sin(jnp.ones(3)))
      ...     with clock("evaluate") as span:
      ...         x = span.wait(jnp.cos(x))
      >>> list(clock.seconds), span.seconds <= clock.seconds["evaluate"]
      (['compile', 'train', 'evaluate'], True)
    """

    def __init__(
        self,
        compiling: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._compiling, self._clock = compiling, clock
        self._compiled_before = compiling()
        self._phases: dict[str, float] = {}
        self._running: str | None = None

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds by phase so far."""
        return {"compile": self._compiling() - self._compiled_before, **self._phases}

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[Span]:
        """Time what stands in a ``with`` as a part of a phase.

        Args:
          phase: any name but ``"compile"``.

        Raises:
          ValueError: the name is ``"compile"``.
          RuntimeError: another phase is running: a second would be counted twice.
        """
        if phase == "compile":
            raise ValueError(
                "PhaseClock takes the phase 'compile' from its argument compiling: give it there."
            )
        if self._running is not None:
            raise RuntimeError(
                f"PhaseClock was to begin {phase!r} while {self._running!r} runs, and a second belongs to "
                "one phase. End the first before."
            )
        self._running = phase
        span, start, compiled = Span(), self._clock(), self._compiling()
        try:
            yield span
            jax.block_until_ready(span._pending)
        finally:
            span._pending.clear()
            self._running = None
            span.seconds = self._clock() - start - (self._compiling() - compiled)
            self._phases[phase] = self._phases.get(phase, 0.0) + span.seconds
