"""Symbolic axes: which slices of which arrays are the same thing.

Every axis of every array in a traced program is a *dim*. Where a program makes two axes equal (an addition, a
contraction), their dims are unified, as types are in type inference. A dim is an atom, or a product of dims
(the axis that a reshape merged, slowest first), or a concatenation of dims; unifying an atom with a composite
gives the atom that structure, so that structure found in one place is known in all places. What remains at the
end are atoms: an index of an atom is the smallest thing that can be removed, everywhere at once.

A dim may also be *indexed*: dims joined end to end and read by a list of positions, as in ``x[:, order]``. All entries
of one of them occur equally often in it, so that every unit of an atom counts alike; an atom whose units do not is
split by how often they occur. Where two such axes are one, units are tied that lie on the same entry: in
``x + x[:, order]`` the cycles of the permutation, of which those of equal length are the units of one atom.

Cost is linear in the number of axes; single entries are enumerated only where there are lists of positions.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np

from wormjax.structure._dim import Dim, Kind, Reason
from wormjax.structure._index_lists import grid, ranks, read, tied

__all__ = ["Dim", "Dims", "Reason"]


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

    def take(self, dim: Dim, index: np.ndarray) -> Dim | None:
        """Return the axis of the entries of ``dim`` at a list of positions; None where its structure forbids it.

        Atoms are split by how often their units occur in the list, those that do not occur among them.
        """
        parts, entries = self._laid(dim)
        counts = np.bincount(entries[index], minlength=sum(part.size for part in parts))
        ends = np.cumsum([part.size for part in parts])
        uneven = [
            (part, often)
            for part, often in zip(parts, np.split(counts, ends[:-1]), strict=True)
            if (often != often[0]).any()
        ]
        if any(part.kind != "atom" for part, _ in uneven):
            return None
        for atom, often in uneven:
            self._split(atom, often)
        parts, entries = self._laid(dim)
        return self._indexed(parts, entries[index])

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
        if "indexed" in (a.kind, b.kind):
            (x, f), (y, g) = self._laid(a), self._laid(b)
            return len(x) == len(y) and np.array_equal(f, g) and all(map(self.same, x, y))
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
        done = False
        if "indexed" in (a.kind, b.kind):
            done = self._align_indexed(a, b, reason)
        elif a.kind == "atom" or b.kind == "atom":
            self._bind(*((a, b) if a.kind == "atom" else (b, a)))
            done = True
        elif a.kind == b.kind == "product":
            done = self._align(a, b, "product", reason)
        elif a.kind == b.kind == "concat":
            done = self._align(a, b, "concat", reason)
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
        if root.kind != "product":
            joined = np.concatenate(inner)
            return joined if root.index is None else joined[root.index]
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
        if root.kind in ("concat", "indexed"):
            # by entry of the parts; where they occur repeatedly, their places come one after another
            order = (
                np.arange(root.size)
                if root.index is None
                else np.argsort(root.index, kind="stable")
            )
            start = 0
            for part, times in zip(root.parts, root.times, strict=True):
                rows = values[order[start : start + times * part.size]].reshape(part.size, times)
                found += [self.project(part, target, column) for column in rows.T]
                start += times * part.size
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

    def _laid(self, dim: Dim) -> tuple[list[Dim], np.ndarray]:
        """The atoms and products that an axis reads, in that order, and where in them each of its entries lies."""
        starts: dict[tuple[int, ...], int] = {}
        parts: list[Dim] = []

        def entries(dim: Dim) -> np.ndarray:
            root = self.find(dim)
            if root.kind in ("concat", "indexed"):
                joined = np.concatenate([entries(part) for part in root.parts])
                return joined if root.index is None else joined[root.index]
            key = tuple(map(id, self._parts(root, "product")))
            if key not in starts:
                starts[key] = sum(part.size for part in parts)
                parts.append(root)
            return np.arange(starts[key], starts[key] + root.size)

        index = entries(dim)
        return self._read(parts, index)

    def _read(self, parts: list[Dim], index: np.ndarray) -> tuple[list[Dim], np.ndarray]:
        """Leave out the parts that no position lies on, and order the others by the first one that does."""
        order, positions = read([part.size for part in parts], index)
        return [parts[k] for k in order], positions

    def _indexed(self, parts: list[Dim], index: np.ndarray) -> Dim:
        """The axis that reads joined parts at a list of positions, in the simplest form."""
        parts, index = self._read(parts, index)
        if np.array_equal(index, np.arange(sum(part.size for part in parts))):
            return self.concat(parts)
        self._count += 1
        return Dim(len(index), self._count, "indexed", tuple(parts), index)

    def _split(self, atom: Dim, by: np.ndarray) -> None:
        """Split an atom into one atom for each number that its units are given."""
        sizes, position = ranks(by)
        self._bind(atom, self._indexed([self.new(n) for n in sizes], position))

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
        if root.kind == "indexed":
            ends = self.take(root, np.arange(at)), self.take(root, np.arange(at, root.size))
            return None if ends[0] is None or ends[1] is None else (ends[0], ends[1])
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

    def _align(self, a: Dim, b: Dim, kind: Kind, reason: Reason) -> bool:
        """Unify two products or two concatenations part by part, dividing parts where the boundaries differ."""
        x, y = (self._parts(dim, kind)[::-1] for dim in (a, b))
        while x and y:
            p, q = self.find(x[-1]), self.find(y[-1])
            if p.size == q.size:
                self.unify(p, q, reason)
                x.pop()
                y.pop()
                continue
            big, small, stack = (p, q, x) if p.size > q.size else (q, p, y)
            divided = (
                self._factored(big, small.size, reason)
                if kind == "product"
                else self._cut_once(big, small.size)
            )
            if divided is None:
                return False
            stack[-1:] = divided[::-1]
        return not x and not y

    def _factored(self, dim: Dim, size: int, reason: Reason) -> Sequence[Dim] | None:
        """Make an axis a product whose slowest factor has a size; or return the product that it is already."""
        if dim.size % size or dim.kind == "concat":
            return None
        if dim.kind == "product":  # bound to a product since the walk began
            return self._parts(dim, "product")
        factors = [self.new(size), self.new(dim.size // size)]
        self.unify(dim, self.product(factors), reason)
        return factors

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

    def _align_indexed(self, a: Dim, b: Dim, reason: Reason) -> bool:
        """Unify two axes of which one reads others at a list of positions."""
        (x, f), (y, g) = self._laid(a), self._laid(b)
        if np.array_equal(f, g) and [p.size for p in x] == [q.size for q in y]:
            for p, q in zip(x, y, strict=True):
                self.unify(p, q, reason)
            return True
        for (these, here), (others, there) in (((x, f), (y, g)), ((y, g), (x, f))):
            is_atom = len(these) == 1 and these[0].kind == "atom" and these[0].size == len(here)
            if is_atom and not any(these[0] in self.atoms(other) for other in others):
                self._bind(these[0], self._indexed(others, there[np.argsort(here)]))
                return True
        if all(part.kind == "atom" for part in (*x, *y)):
            self._tie_units(x, f, y, g)
            return True
        if len(x) == len(y) == 1 and x[0].size == y[0].size == len(f):
            shape = grid(f[np.argsort(g)])
            if shape is not None:  # a transposition written as a list, as in a shuffle of channels
                parts = self.factor(x[0], shape, reason)
                self.unify(self.product(parts[::-1]), y[0], reason)
                return True
        return False

    def _tie_units(self, x: list[Dim], f: np.ndarray, y: list[Dim], g: np.ndarray) -> None:
        """Tie the units of atoms that lie on the same entry; classes that are made alike become one atom."""
        atoms = list(dict.fromkeys((*x, *y)))
        starts = np.cumsum([0, *(atom.size for atom in atoms)])
        of = {atom: np.arange(*span) for atom, span in zip(atoms, pairwise(starts), strict=True)}
        left, right = (np.concatenate([of[a] for a in part])[i] for part, i in ((x, f), (y, g)))
        sizes, position = tied([atom.size for atom in atoms], left, right)
        made = [self.new(n) for n in sizes]
        for atom, entries in of.items():
            self._bind(atom, self._indexed(made, position[entries]))
