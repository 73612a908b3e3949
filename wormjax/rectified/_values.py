"""What a value of the program is to the interpreter."""

import dataclasses
from typing import Any

from jaxtyping import Array

LITERAL, SCALE, WEIGHT = (
    0,
    1,
    2,
)  # where a fixed value comes from: the text, another array, a weight


@dataclasses.dataclass(frozen=True, eq=False)
class Fixed:
    """A value that does not depend on the input.

    Attributes:
      array: it.
      origin: `WEIGHT` where a weight takes part in it; `SCALE` where another parameter or an array that the function
        closes over does; else `LITERAL`.
      leaves: places of the weights that take part in it.
    """

    array: Any
    origin: int = LITERAL
    leaves: frozenset[int] = frozenset()


@dataclasses.dataclass(frozen=True, eq=False)
class Signal:
    """A value that is linear in the input, once the rectifiers are settled.

    Attributes:
      array: it, divided by ``2**exponent``.
      exponent: int32 scalar; None where values are as they are.
      root: stands for the value through changes of dtype and shape.
      mean_of: the root of what this is a sum or mean of.
    """

    array: Any
    exponent: Array | None = None
    root: object = dataclasses.field(default_factory=object)
    mean_of: object = None


@dataclasses.dataclass(frozen=True, eq=False)
class Statistic:
    """Something quadratic in a signal: on the way to the variance that a normalisation divides by.

    Attributes:
      array: it; what a normalisation is left out for does not read it.
      reduced: whether it is a sum over something already; a product with a mere square is no normalisation.
    """

    array: Any
    reduced: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Gate:
    """A decision of a rectifier, or what was made of it: settled, so that it is a constant to the signal."""

    array: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Unknown:
    """A value that is neither; an error if the output depends on it.

    Attributes:
      primitive: what made it.
      line: where.
    """

    primitive: str
    line: str


Value = Fixed | Signal | Statistic | Gate | Unknown
