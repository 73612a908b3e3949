"""Symbolic axes: which slices of which arrays are the same thing.

Every axis of every array in a traced program is a *dim*. Where a program makes two axes equal (an addition, a
contraction), their dims are unified, as types are in type inference. A dim is an atom, or a product of dims
(the axis that a reshape merged, slowest first), or a concatenation of dims; unifying an atom with a composite
gives the atom that structure, so that structure found in one place is known in all places. What remains at the
end are atoms: an index of an atom is the smallest thing that can be removed, everywhere at once.

Cost is linear in the number of axes; no index is ever enumerated.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Literal

import numpy as np

Kind = Literal["atom", "product", "concat"]


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
    """One axis; a node of the union-find that `Dims` keeps. Compare with `Dims.same`, not with ``==``."""

    __slots__ = ("kind", "parent", "parts", "reasons", "serial", "size")

    def __init__(self, size: int, serial: int, kind: Kind = "atom", parts: tuple["Dim", ...] = ()):
        self.size, self.serial = size, serial
        self.kind: Kind = kind
        self.parts = parts
        self.parent: Dim | None = None
        self.reasons: dict[str, Reason] = {}

    def __repr__(self) -> str:
        inner = {"atom": "", "product": " x ", "concat": " + "}[self.kind].join(
            map(repr, self.parts)
        )
        return f"d{self.serial}:{self.size}" if self.kind == "atom" else f"({inner})"


class Dims:
    """The dims of one traced program."""

    def __init__(self) -> None:
        self._count = 0

    def new(self, size: int) -> Dim:
        """Return an axis of which nothing is known yet."""
        self._count += 1
        return Dim(int(size), self._count)

    def product(self, parts: Sequence[Dim]) -> Dim:
        """Return the axis that merges ``parts``, the first varying slowest."""
        flat = [p for part in parts for p in self._parts(part, "product") if p.size != 1]
        return self._composite("product", flat, math.prod(p.size for p in parts))

    def concat(self, parts: Sequence[Dim]) -> Dim:
        """Return the axis that joins ``parts`` end to end."""
        flat = [p for part in parts for p in self._parts(part, "concat") if p.size != 0]
        return self._composite("concat", flat, sum(p.size for p in parts))

    def find(self, dim: Dim) -> Dim:
        """Return the representative of a dim, with the structure known by now."""
        root = dim
        while root.parent is not None:
            root = root.parent
        while dim.parent is not None:
            dim.parent, dim = root, dim.parent
        return root

    def same(self, a: Dim, b: Dim) -> bool:
        """Whether two dims are known to be the same axis."""
        a, b = self.find(a), self.find(b)
        if a is b:
            return True
        if a.kind != b.kind or a.kind == "atom":
            return False
        x, y = self._parts(a, a.kind), self._parts(b, b.kind)
        return len(x) == len(y) and all(map(self.same, x, y))

    def atoms(self, dim: Dim) -> list[Dim]:
        """Return the atoms that a dim is made of, in order, repeated where they occur repeatedly."""
        root = self.find(dim)
        if root.kind == "atom":
            return [root] if root.size > 1 else []
        return [atom for part in root.parts for atom in self.atoms(part)]

    def unify(self, a: Dim, b: Dim, reason: Reason) -> None:
        """Make two axes one.

        Where their structures cannot be brought together, both are fixed, with ``reason`` saying where.

        Raises:
          ValueError: their sizes differ.
        """
        a, b = self.find(a), self.find(b)
        if a is b:
            return
        if a.size != b.size:
            raise ValueError(f"axes of {a.size} and {b.size} entries cannot be the same axis")
        if a.size <= 1:
            return
        if a.kind == "atom" or b.kind == "atom":
            self._bind(*((a, b) if a.kind == "atom" else (b, a)))
            return
        done = False
        if a.kind == b.kind == "product":
            done = self._align_products(a, b, reason)
        elif a.kind == b.kind == "concat":
            done = self._align_concats(a, b, reason)
        else:
            product, concat = (a, b) if a.kind == "product" else (b, a)
            done = self._distribute(product, concat, reason)
        if not done:
            self.fix(a, reason)
            self.fix(b, reason)

    def fix(self, dim: Dim, reason: Reason) -> None:
        """Say that an axis must stay whole."""
        root = self.find(dim)
        root.reasons.setdefault(reason.why, reason)
        for part in root.parts:
            self.fix(part, reason)

    def reasons(self, dim: Dim) -> list[Reason]:
        """Return why an axis must stay whole; empty where it need not."""
        root = self.find(dim)
        found, atoms = dict(root.reasons), self.atoms(root)
        if all(atom.reasons for atom in atoms):
            found |= {why: reason for atom in atoms for why, reason in atom.reasons.items()}
        return list(found.values())

    def cut(self, dim: Dim, at: Iterable[int]) -> list[Dim] | None:
        """Cut an axis at positions, rising, and return the pieces; None where its structure forbids it."""
        pieces, rest, start = [], dim, 0
        for position in at:
            halves = self._cut_once(rest, position - start)
            if halves is None:
                return None
            pieces.append(halves[0])
            rest, start = halves[1], position
        return [*pieces, rest]

    def factor(self, dim: Dim, sizes: Sequence[int], reason: Reason) -> list[Dim]:
        """Split an axis into factors of these sizes, the first slowest; all fixed where its structure forbids it."""
        parts = [self.new(size) for size in sizes]
        self.unify(dim, self.product(parts), reason)
        return parts

    def kept(self, dim: Dim, masks: Mapping[Dim, np.ndarray]) -> np.ndarray:
        """Return the bool mask of an axis from the masks of its atoms; an atom without one is whole."""
        root = self.find(dim)
        if root.kind == "atom":
            return masks[root] if root in masks else np.ones(root.size, bool)
        inner = [self.kept(part, masks) for part in root.parts]
        if root.kind == "concat":
            return np.concatenate(inner)
        whole = np.ones(1, bool)
        for part in inner:
            whole = (whole[:, None] & part[None, :]).ravel()
        return whole

    def project(self, dim: Dim, atom: Dim, values: np.ndarray) -> np.ndarray:
        """Return the rows of ``values`` (one for each entry of ``dim``) that lie on each unit of an atom.

        The result has the atom's size in front and one column for each place that a unit has on the axis.
        """
        root, target = self.find(dim), self.find(atom)
        if root is target:
            return values[:, None]
        found = [np.zeros((target.size, 0), values.dtype)]
        if root.kind == "concat":
            start = 0
            for part in root.parts:
                found.append(self.project(part, target, values[start : start + part.size]))
                start += part.size
        elif root.kind == "product":
            grid = values.reshape([part.size for part in root.parts])
            for axis, part in enumerate(root.parts):
                if any(a is target for a in self.atoms(part)):
                    rows = np.moveaxis(grid, axis, 0).reshape(part.size, -1)
                    columns = [self.project(part, target, column) for column in rows.T]
                    found.append(np.concatenate(columns, axis=1))
        return np.concatenate(found, axis=1)

    def _composite(self, kind: Kind, parts: Sequence[Dim], size: int) -> Dim:
        if not parts or size == 0:
            return self.new(size)
        if len(parts) == 1:
            return parts[0]
        self._count += 1
        return Dim(size, self._count, kind, tuple(parts))

    def _parts(self, dim: Dim, kind: Kind) -> list[Dim]:
        """The parts of a dim seen as a product or as a concatenation, nested ones flattened."""
        root = self.find(dim)
        if root.kind != kind:
            return [root]
        return [p for part in root.parts for p in self._parts(part, kind)]

    def _bind(self, atom: Dim, target: Dim) -> None:
        target = self.find(target)
        if atom is target:
            return
        atom.parent = target
        for reason in atom.reasons.values():
            self.fix(target, reason)

    def _cut_once(self, dim: Dim, at: int) -> tuple[Dim, Dim] | None:
        root = self.find(dim)
        if root.kind == "atom":
            halves = self.new(at), self.new(root.size - at)
            self._bind(root, self.concat(halves))
            return halves
        parts = self._parts(root, root.kind)
        if root.kind == "product":
            inner = root.size // parts[0].size
            if at % inner:
                return None
            head = self._cut_once(parts[0], at // inner)
            return None if head is None else tuple(self.product([h, *parts[1:]]) for h in head)  # type: ignore[return-value]
        left: list[Dim] = []
        for i, part in enumerate(parts):
            if at == 0:
                return self.concat(left), self.concat(parts[i:])
            if at < part.size:
                halves = self._cut_once(part, at)  # type: ignore[assignment]
                if halves is None:
                    return None
                return self.concat([*left, halves[0]]), self.concat([halves[1], *parts[i + 1 :]])
            left.append(part)
            at -= part.size
        return self.concat(left), self.new(0)

    def _align_products(self, a: Dim, b: Dim, reason: Reason) -> bool:
        """Unify two products factor by factor, splitting atoms where the boundaries differ."""
        x, y = self._parts(a, "product")[::-1], self._parts(b, "product")[::-1]
        while x and y:
            p, q = self.find(x[-1]), self.find(y[-1])
            if p.size == q.size:
                self.unify(p, q, reason)
                x.pop()
                y.pop()
                continue
            big, small, stack = (p, q, x) if p.size > q.size else (q, p, y)
            if big.size % small.size or big.kind == "concat":
                return False
            if big.kind == "product":  # bound to a product since the walk began
                stack[-1:] = self._parts(big, "product")[::-1]
                continue
            split = [self.new(small.size), self.new(big.size // small.size)]
            self._bind(big, self.product(split))
            stack[-1:] = split[::-1]
        return not x and not y

    def _align_concats(self, a: Dim, b: Dim, reason: Reason) -> bool:
        """Unify two concatenations piece by piece, cutting pieces where the boundaries differ."""
        x, y = self._parts(a, "concat")[::-1], self._parts(b, "concat")[::-1]
        while x and y:
            p, q = self.find(x[-1]), self.find(y[-1])
            if p.size == q.size:
                self.unify(p, q, reason)
                x.pop()
                y.pop()
                continue
            big, small, stack = (p, q, x) if p.size > q.size else (q, p, y)
            halves = self._cut_once(big, small.size)
            if halves is None:
                return False
            stack[-1:] = list(halves)[::-1]
        return not x and not y

    def _distribute(self, product: Dim, concat: Dim, reason: Reason) -> bool:
        """Unify a product with a concatenation by cutting the product's slowest factor."""
        inner = product.size // self._parts(product, "product")[0].size
        ends = accumulate(part.size for part in self._parts(concat, "concat"))
        common = [end for end in ends if end % inner == 0 and end < product.size]
        mine, theirs = self.cut(product, common), self.cut(concat, common)
        if not common or mine is None or theirs is None:
            return False
        for piece, part in zip(mine, theirs, strict=True):
            self.unify(piece, part, reason)
        return True
