"""One symbolic axis, and why it must stay whole."""

import dataclasses
from typing import Literal

import numpy as np

Kind = Literal["atom", "product", "concat", "indexed"]


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why an axis must stay whole.

    Attributes:
      why: a sentence.
      primitive: the primitive that asks for it, or "" (an input, an output, a rule of the user).
      source: file and line of the traced program, or "".
    """

    why: str
    primitive: str = ""
    source: str = ""

    def __str__(self) -> str:
        at = (
            f" [{self.primitive}{' at ' + self.source if self.source else ''}]"
            if self.primitive
            else ""
        )
        return f"{self.why}{at}"


class Dim:
    """One axis; a node of the union-find that `Dims` keeps. Compare with `Dims.same`, not with ``==``.

    Attributes:
      size: its entries.
      kind: what it is made of.
      parts: the dims that a composite is made of.
      index: of an indexed one, the position of each entry in its parts as they are joined.
    """

    __slots__ = ("index", "kind", "parent", "parts", "reasons", "serial", "size")

    def __init__(
        self,
        size: int,
        serial: int,
        kind: Kind = "atom",
        parts: tuple["Dim", ...] = (),
        index: np.ndarray | None = None,
    ):
        self.size, self.serial = size, serial
        self.kind: Kind = kind
        self.parts, self.index = parts, index
        self.parent: Dim | None = None
        self.reasons: dict[str, Reason] = {}

    def __repr__(self) -> str:
        if self.kind == "atom":
            return f"d{self.serial}:{self.size}"
        inner = (" x " if self.kind == "product" else " + ").join(map(repr, self.parts))
        return f"({inner})" if self.index is None else f"({inner})[{self.size} positions]"

    @property
    def times(self) -> list[int]:
        """How often each entry of each part occurs: once, unless a list of positions repeats it."""
        if self.index is None:
            return [1] * len(self.parts)
        first = np.cumsum([0, *(part.size for part in self.parts)])[:-1]
        return np.bincount(self.index)[first].tolist()
