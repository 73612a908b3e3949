"""Pure functions of one seed, lifted to a leading seed axis."""

from collections.abc import Callable
from typing import Any

import jax

from experiments.training._ahead import Program
from experiments.training._seeds import add_axis, drop_axis


class PerSeed:
    """A function of one seed, compiled for trees with a leading seed axis.

    A single seed is squeezed and not mapped: on XLA:CPU a vmap is slower than a call, and it turns conditionals
    into selects.

    Args:
      function: pure, of pytrees of arrays without a seed axis.

    Example:
      >>> import jax.numpy as jnp
      >>> total = PerSeed(lambda x: x.sum())
      >>> total(jnp.ones((3, 2))).tolist()
      [2.0, 2.0, 2.0]
    """

    def __init__(self, function: Callable):
        self._function = function
        self._program = Program(self._lifted)

    @property
    def compile_seconds(self) -> float:
        """Time spent in tracing and compiling so far, in seconds."""
        return self._program.seconds

    def compile(self, *trees: Any) -> None:
        """Compile for arguments like these, and run nothing."""
        self._program.compiled(*trees)

    def __call__(self, *trees: Any) -> Any:
        """Apply the function to every seed."""
        return self._program.compiled(*trees)(*trees)

    def _lifted(self, *trees):
        if jax.tree.leaves(trees)[0].shape[0] == 1:
            return add_axis(self._function(*drop_axis(trees)))
        return jax.vmap(self._function)(*trees)
