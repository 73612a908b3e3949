"""A jitted function that tells how often it was traced.

JAX's own count of a function's programs is private, and entries leave it when a long run fills the cache of all.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax


def counted(function: Callable[..., Any]) -> tuple[Callable[..., Any], list[None]]:
    """Return the function, jitted, and a list that is one longer after every trace."""
    traces: list[None] = []

    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        traces.append(None)
        return function(*args, **kwargs)

    return jax.jit(traced), traces
