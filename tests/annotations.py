"""Which annotations of the library are checked while its tests run, and how."""

import functools
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from beartype import beartype


def modules_with_shapes(package: str) -> list[str]:
    """Return the modules that annotate arrays; mypy checks the others, and calls of theirs are the most."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    return [
        ".".join([package, *path.relative_to(root).with_suffix("").parts])
        for path in sorted(root.rglob("*.py"))
        if path.name != "__init__.py" and "from jaxtyping import" in path.read_text()
    ]


def checked(function: Callable) -> Callable:
    """Check a function's annotations from its first call on.

    A function that another one makes anew at every call is left as it is: it would be compiled again each time, and
    a hundred networks made ten thousand of them, at 1.5 ms each.
    """
    if "<locals>" in getattr(function, "__qualname__", ""):
        return function
    made: list[Callable] = []

    @functools.wraps(function)
    def once_called(*args: Any, **kwargs: Any) -> Any:
        if not made:
            made.append(beartype(function))
        return made[0](*args, **kwargs)

    return once_called
