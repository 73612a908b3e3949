"""Exact counts from densities, ratios and distances: no float decides how many entries live."""

import math
import numbers
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import jax
import numpy as np

COUNT_LIMIT = 2**31  # counts are int32 on the device


def as_fraction(name: str, value: Any) -> Fraction:
    """Return ``value`` as the exact fraction that its decimal notation says.

    ``0.1`` becomes 1/10 and not the binary float next to it, so that counts and comparisons with epsilon
    are exact integers.

    Args:
      name: what the value is called in the error.
      value: a Python or NumPy number, a decimal string, or a `Fraction`.

    Raises:
      TypeError: ``value`` is a JAX array, as `optax.inject_hyperparams` makes of every number.

    Example:
      >>> as_fraction("density", 0.29) * 100
      Fraction(29, 1)
    """
    if isinstance(value, jax.Array):
        raise TypeError(
            f"{name} arrived as a JAX array, but it decides counts while tracing and must be a Python "
            f"number. Under optax.inject_hyperparams, name it in static_args (every argument but "
            "the ones meant to change, such as factor, belongs there)."
        )
    if isinstance(value, bool) or not isinstance(value, str | numbers.Real | np.floating):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if isinstance(value, numbers.Rational):
        return Fraction(value)
    try:
        return Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        raise ValueError(
            f"{name} must be a finite decimal number, got {value!r}. Write a share as a fraction of one: 0.1 for a "
            "tenth, not '10%'."
        ) from None


def ratio_in_unit_interval(name: str, value: Any) -> Fraction:
    """Return ``value`` as a fraction strictly between 0 and 1, or say why it is not one."""
    ratio = as_fraction(name, value)
    if not 0 < ratio < 1:
        raise ValueError(
            f"{name} must lie strictly between 0 and 1, got {value}. It is a fraction of the prunable "
            "entries (0.3 for 30%), not a percentage or a count."
        )
    return ratio


def as_density(name: str, value: Any) -> Fraction:
    """Return ``value`` as a fraction in (0, 1], or say why it is no density.

    Args:
      name: what the value is called in the error.
      value: as for `as_fraction`.

    Raises:
      ValueError: it is 0, negative or above 1.

    Example:
      >>> as_density("density", 0.05)
      Fraction(1, 20)
    """
    ratio = as_fraction(name, value)
    if not 0 < ratio <= 1:
        raise ValueError(
            f"{name} must lie in (0, 1], got {value}. It is the fraction that is kept: 0.1 keeps a tenth, 1 is "
            "dense (where training that ends sparse begins)."
        )
    return ratio


def floor_count(ratio: Fraction, size: int) -> int:
    """Return ``floor(ratio * size)`` in exact integers."""
    return math.floor(ratio * size)


def check_total(sizes: Sequence[int], times: int = 1) -> int:
    """Return ``sum(sizes)``; raise where ``times`` such totals no longer fit the int32 counts."""
    total = sum(sizes)
    if total * times >= COUNT_LIMIT:
        raise ValueError(
            f"{total:,} score entries are more than 32-bit counts hold (limit {COUNT_LIMIT // times:,} "
            "here). Use scope='leaf', or split the tree and select in each part."
        )
    return total
