"""At which steps masks are updated."""

import dataclasses
from fractions import Fraction
from typing import Any

import jax
from jaxtyping import Array, Bool, Int

from wormjax._counts import as_fraction


@dataclasses.dataclass(frozen=True)
class Timing:
    """Steps are counted from 1, so that there is no update before the first gradient.

    Attributes:
      every: steps from one update to the next.
      start: first step at which there may be one.
      stop: last such step.
      catch_up: update at ``stop`` whether or not ``every`` divides it.
    """

    every: int
    start: int
    stop: int
    catch_up: bool

    @classmethod
    def of(
        cls,
        every: Any,
        start: Any,
        stop: Any,
        total_steps: Any,
        guard_last: bool,
        catch_up: bool,
    ) -> "Timing":
        """Check the numbers that `wormjax.sparse_training` takes and resolve fractions of the training.

        Raises:
          TypeError: a number is a JAX array.
          ValueError: a number is out of range; a fraction without ``total_steps``; a period longer than training.
        """
        total = None if total_steps is None else _positive("total_steps", total_steps)
        period = _positive("every", every)
        first = max(1, _step("start", start, total))
        if stop is None:
            stop = 1.0
        last = _step("stop", stop, total)
        if total is not None and guard_last:
            last = min(last, total - 1)
        if first > last:
            raise ValueError(
                f"Masks would never be updated: the first step at which they may is {first} (start={start!r}) and "
                f"the last is {last} (stop={stop!r}, total_steps={total_steps!r}). Lower start or raise stop."
            )
        if not catch_up and period * -(-first // period) > last:
            raise ValueError(
                f"every={period} puts no mask update between steps {first} and {last}: the update period is longer "
                "than that part of the training. Lower every, or use wormjax.dst.presets.static."
            )
        return cls(period, first, last, catch_up)

    def due(self, step: Int[Array, ""]) -> Bool[Array, ""]:
        """Whether masks are updated at this step (1 is the first)."""
        now = step % self.every == 0
        if self.catch_up:
            now = now | (step == self.stop)
        return now & (step >= self.start) & (step <= self.stop)


def _positive(name: str, value: Any) -> int:
    if isinstance(value, jax.Array):
        as_fraction(name, value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive number of optimizer updates, got {value!r}.")
    return value


def _step(name: str, value: Any, total: int | None) -> int:
    """A step as it is, or a fraction (a float or Fraction from 0 to 1) of the training."""
    if isinstance(value, jax.Array):
        as_fraction(name, value)
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError(f"{name} must not be negative, got {value}.")
        return value
    part: Fraction = as_fraction(name, value)
    if not 0 <= part <= 1:
        raise ValueError(
            f"{name} must be a step (an int) or a fraction of the training from 0 to 1, got {value!r}."
        )
    if part == 0:
        return 0
    if total is None:
        raise ValueError(
            f"{name}={value!r} is a fraction of the training, whose length is not known. Add total_steps=, the number "
            "of optimizer updates: total_steps=epochs * batches_per_epoch. "
            f"Or give {name} as a step, such as {name}={max(1, int(part * 10_000))} of 10,000."
        )
    return int(part * total)
