"""Compile ahead of time, and time in turn."""

import time
from collections.abc import Callable
from typing import Any

import jax

from wormjax.evaluation import Ratio as Ratio
from wormjax.evaluation import Samples as Samples
from wormjax.evaluation import latency as interleave

__all__ = ["Ratio", "Samples", "compiled", "interleave"]

Clock = Callable[[], float]


def compiled(
    function: Callable, *args: Any, donate: tuple[int, ...] = (), clock: Clock = time.perf_counter
) -> tuple[jax.stages.Compiled, float]:
    """Compile ahead of time, so that no compilation hides in a measurement.

    Args:
      function: what `jax.jit` takes.
      *args: arrays, or `jax.ShapeDtypeStruct`.
      donate: positions of arguments whose buffers the program may reuse.
      clock: what tells the time, in seconds.

    Returns:
      The executable, and the seconds that tracing and compiling took.

    Example:
      >>> import jax.numpy as jnp
      >>> double, seconds = compiled(lambda x: x * 2, jnp.ones(2))
      >>> print(double(jnp.ones(2)), seconds > 0)
      [2. 2.] True
    """
    start = clock()
    executable = jax.jit(function, donate_argnums=donate).lower(*args).compile()
    return executable, clock() - start
