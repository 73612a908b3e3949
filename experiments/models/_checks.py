"""Checks that the configurations of all models share."""

import dataclasses
from collections.abc import Sequence
from typing import Any

DTYPES = ("float32", "bfloat16")


def freeze_lists(config: Any) -> None:
    """Make tuples of the lists that JSON gives, in a frozen dataclass that is being made."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, list):
            object.__setattr__(config, field.name, tuple(value))


def check_settings(config: Any) -> None:
    """Raise ``ValueError`` unless classes, channels, scale_init and dtype are usable."""
    for name in ("classes", "channels"):
        value = getattr(config, name, 1)
        if value < 1:
            raise ValueError(f"{type(config).__name__}: {name}={value} must be at least 1.")
    if not config.scale_init > 0:
        raise ValueError(
            f"{type(config).__name__}: scale_init={config.scale_init} must be positive: a scale of 0 "
            "passes nothing on."
        )
    if config.dtype not in DTYPES:
        raise ValueError(
            f"{type(config).__name__}: dtype={config.dtype!r} is none of {', '.join(DTYPES)}."
        )


def check_widths(name: str, widths: Sequence[int | str]) -> None:
    """Raise ``ValueError`` unless there is a width and every one is a positive int."""
    if not widths:
        raise ValueError(f"{name} names no layer: give at least one width.")
    for width in widths:
        if not isinstance(width, int) or width < 1:
            raise ValueError(f"{name} holds {width!r}, which is not a positive number of channels.")
