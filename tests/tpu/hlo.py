"""What a compiled program says of itself: which numbers it holds, and what its devices exchange."""

import math
import re
from typing import NamedTuple

_COLLECTIVE = re.compile(
    r"^\s*(?:ROOT )?\S+ = (?P<type>.*?) (?P<name>all-gather|all-reduce|all-to-all|"
    r"collective-broadcast|collective-permute|ragged-all-to-all|reduce-scatter)(?:-start)?\(",
    re.MULTILINE,
)
_ARRAY = re.compile(r"\b[a-z]\w*\[([\d,]*)\]")
# in StableHLO tensor<f64> and tensor<8xf64>, in HLO f64[] and f64[8]
_DOUBLE = re.compile(r"[<x]f64>|\bf64\[")
_DOUBLE_ARRAY = re.compile(r"xf64>|\bf64\[\d")


class Exchange(NamedTuple):
    """A collective and the entries of the largest array that it gives to one device."""

    name: str
    entries: int


def exchanges(text: str) -> list[Exchange]:
    """Return every collective of an HLO module."""
    found = []
    for match in _COLLECTIVE.finditer(text):
        shapes = _ARRAY.findall(match["type"])
        if not shapes:
            raise ValueError(f"There is no shape in the collective {match[0]!r}.")
        sizes = [math.prod(int(n) for n in shape.split(",") if n) for shape in shapes]
        found.append(Exchange(match["name"], max(sizes)))
    return found


def holds_doubles(text: str, *, scalars: bool = True) -> bool:
    """Whether a StableHLO or HLO module has a float64 array, or even a scalar."""
    return (_DOUBLE if scalars else _DOUBLE_ARRAY).search(text) is not None


def conditionals(text: str) -> int:
    """Return how many conditionals an HLO module has."""
    return text.count(" conditional(")
