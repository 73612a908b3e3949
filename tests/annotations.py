"""How the annotations of the library are checked while its tests run."""

from collections.abc import Callable

from beartype import beartype


def checked(function: Callable) -> Callable:
    """Check a function's annotations, unless it is made anew at every call of another one.

    A closure would be compiled again each time: a hundred networks made ten thousand of them, at 1.5 ms each.
    """
    return function if "<locals>" in getattr(function, "__qualname__", "") else beartype(function)
