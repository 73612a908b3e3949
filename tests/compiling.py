"""A jitted function that tells how often it was compiled.

JAX's own count of a function's programs is private, and was 0 for a function just called at the end of a long run.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax

_NAMES = (f"counted_{n}" for n in itertools.count())
_PROGRAMS: dict[str, list[None]] = {}


def _listen(event: str, duration: float, **told: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration" and told["fun_name"] in _PROGRAMS:
        _PROGRAMS[told["fun_name"]].append(None)


jax.monitoring.register_event_duration_secs_listener(_listen)


def counted(function: Callable[..., Any]) -> tuple[Callable[..., Any], list[None]]:
    """Return the function, jitted, and a list that is one longer after every program that is compiled of it."""

    @functools.wraps(function)
    def renamed(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    renamed.__name__ = next(_NAMES)
    return jax.jit(renamed), _PROGRAMS.setdefault(f"jit({renamed.__name__})", [])
