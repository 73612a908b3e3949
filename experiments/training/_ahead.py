"""A jitted function compiled ahead of time, so that compile time and run time are told apart."""

import time
from collections.abc import Callable
from typing import Any

import jax


class Program:
    """Compile a function once for each signature, count the compilations and time them.

    A signature is the tree structure and every leaf's shape, dtype and sharding, as for `jax.jit`.

    Attributes:
      seconds: time spent in tracing and compiling so far, in seconds.
      count: programs compiled so far.

    Example:
      >>> import jax.numpy as jnp
      >>> double = Program(lambda x: x * 2)
      >>> run = double.compiled(jnp.ones(3))
      >>> print(run(jnp.ones(3)), double.count)
      [2. 2. 2.] 1
    """

    def __init__(self, function: Callable, donate: tuple[int, ...] = ()):
        self._jitted = jax.jit(function, donate_argnums=donate)
        self._programs: dict[Any, jax.stages.Compiled] = {}
        self.seconds = 0.0
        self.count = 0

    def compiled(self, *args: Any) -> jax.stages.Compiled:
        """Return the executable for arguments like ``args`` (arrays, or `jax.ShapeDtypeStruct`)."""
        leaves, treedef = jax.tree.flatten(args)
        signature = (treedef, *((x.shape, x.dtype, getattr(x, "sharding", None)) for x in leaves))
        if signature not in self._programs:
            start = time.perf_counter()
            self._programs[signature] = self._jitted.lower(*args).compile()
            self.seconds += time.perf_counter() - start
            self.count += 1
        return self._programs[signature]
