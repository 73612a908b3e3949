"""Symbolic axes against arrays of labels.

The oracle writes down, for every axis that a random program makes, what it must be in terms of others (an outer
product, a joining, an equal), and checks these relations between bool arrays in NumPy. Where a program has no
products, the oracle is exact: a union-find over single entries.
"""

import math
from itertools import accumulate, pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wormjax.structure._costs import kept_sizes
from wormjax.structure._dims import Dim, Dims, Reason

MIXED = Reason("they were mixed")
HELD = Reason("it is held")
LARGEST = 48


class Program:
    """Axes made by random operations, and the relations that must hold between their masks."""

    def __init__(self) -> None:
        self.dims = Dims()
        self.axes: list[Dim] = []
        self.relations: list[tuple[str, Dim, list[Dim]]] = []
        self.lists: list[tuple[Dim, Dim, np.ndarray]] = []

    def new(self, size: int) -> None:
        self.axes.append(self.dims.new(size))

    def join(self, kind: str, parts: list[Dim]) -> None:
        if (math.prod if kind == "product" else sum)([p.size for p in parts]) <= LARGEST:
            self.axes.append(getattr(self.dims, kind)(parts))
            self.relations.append((kind, self.axes[-1], parts))

    def unify(self, a: Dim, b: Dim) -> None:
        self.dims.unify(a, b, MIXED)
        self.relations.append(("concat", a, [b]))

    def cut(self, dim: Dim, at: list[int]) -> None:
        pieces = self.dims.cut(dim, at)
        if pieces is not None:
            assert [p.size for p in pieces] == np.diff([0, *at, dim.size]).tolist()
            self.axes += pieces
            self.relations.append(("concat", dim, pieces))

    def factor(self, dim: Dim, sizes: list[int]) -> None:
        parts = self.dims.factor(dim, sizes, MIXED)
        assert [p.size for p in parts] == sizes
        self.axes += parts
        self.relations.append(("product", dim, parts))

    def take(self, dim: Dim, index: np.ndarray) -> None:
        taken = self.dims.take(dim, index)
        if taken is not None:
            assert taken.size == len(index)
            self.axes.append(taken)
            self.lists.append((taken, dim, index))

    def atoms(self) -> list[Dim]:
        return list(dict.fromkeys(atom for axis in self.axes for atom in self.dims.atoms(axis)))

    def free(self) -> list[Dim]:
        return [atom for atom in self.atoms() if not self.dims.reasons(atom)]


def _joined(kind: str, masks: list[np.ndarray]) -> np.ndarray:
    if kind == "concat":
        return np.concatenate(masks)
    return np.array([all(entry) for entry in _entries(masks)])


def _entries(masks: list[np.ndarray]) -> list[tuple[bool, ...]]:
    grids = np.meshgrid(*masks, indexing="ij")
    return list(zip(*(grid.ravel().tolist() for grid in grids), strict=True))


def random_program(data: st.DataObject) -> Program:
    """Run operations as they are drawn, for what can be done depends on the axes that there are."""
    program = Program()

    def number(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    def any_of(axes: list[Dim]) -> Dim:
        return axes[number(0, len(axes) - 1)]

    for _ in range(number(2, 5)):
        program.new((1, 2, 3, 4, 6, 8, 12)[number(0, 6)])
    for _ in range(number(1, 14)):
        one = any_of(program.axes)
        match number(0, 19):
            case 0 | 1:
                program.join("product", [one, *(any_of(program.axes) for _ in range(number(0, 2)))])
            case 2 | 3:
                program.join("concat", [one, *(any_of(program.axes) for _ in range(number(0, 2)))])
            case 4 | 5 | 6:
                program.cut(one, sorted(number(0, one.size) for _ in range(number(1, 3))))
            case 7 | 8 | 9 if one.size:
                divisors = [k for k in range(1, one.size + 1) if one.size % k == 0]
                first = divisors[number(0, len(divisors) - 1)]
                program.factor(one, [first, one.size // first])
            case 10:
                program.dims.fix(one, HELD)
            case 11 | 12 if one.size:
                program.take(one, np.array(data.draw(st.permutations(range(one.size)))))
            case 13 | 14 if one.size:
                anywhere = st.lists(st.integers(0, one.size - 1), min_size=1, max_size=LARGEST // 3)
                program.take(one, np.array(data.draw(anywhere)))
            case _:
                program.unify(one, any_of([axis for axis in program.axes if axis.size == one.size]))
    return program


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(0, 2**32 - 1))
def test_masks_of_free_atoms_keep_every_relation(data: st.DataObject, seed: int) -> None:
    program = random_program(data)
    rng = np.random.default_rng(seed)
    masks = {atom: rng.random(atom.size) < 0.7 for atom in program.free()}
    kept = {axis: program.dims.kept(axis, masks) for axis in program.axes}
    size = kept_sizes(program.dims, {atom: int(mask.sum()) for atom, mask in masks.items()})
    assert [size(axis) for axis in program.axes] == [int(kept[a].sum()) for a in program.axes]
    for taken, whole, index in program.lists:
        np.testing.assert_array_equal(kept[taken], kept[whole][index])
    for kind, whole, parts in program.relations:
        np.testing.assert_array_equal(
            program.dims.kept(whole, masks), _joined(kind, [kept[p] for p in parts])
        )


@settings(max_examples=66, deadline=None)
@given(st.data())
def test_an_axis_with_a_reason_is_whole_and_so_are_its_atoms(data: st.DataObject) -> None:
    program = random_program(data)
    masks = {atom: np.zeros(atom.size, bool) for atom in program.free()}
    for axis in program.axes:
        if atoms := program.dims.atoms(axis):
            held = all(map(program.dims.reasons, atoms))
            assert bool(program.dims.reasons(axis)) == held
            assert program.dims.kept(axis, masks).all() == held
        assert set(map(str, program.dims.reasons(axis))) <= {str(MIXED), str(HELD)}


@settings(max_examples=66, deadline=None)
@given(st.data())
def test_project_finds_every_place_of_every_unit(data: st.DataObject) -> None:
    program = random_program(data)
    atoms = program.atoms()
    if not atoms:
        return
    atom = data.draw(st.sampled_from(atoms))
    axis = data.draw(st.sampled_from(program.axes))
    rows = program.dims.project(axis, atom, np.arange(axis.size))
    assert rows.shape[0] == atom.size
    for unit in range(atom.size):
        gone = np.flatnonzero(~program.dims.kept(axis, {atom: np.arange(atom.size) != unit}))
        assert set(rows[unit].tolist()) == set(gone.tolist())


class Labels:
    """A union-find over the single entries of all axes."""

    def __init__(self) -> None:
        self.parent: list[int] = []
        self.axes: list[np.ndarray] = []

    def new(self, size: int) -> np.ndarray:
        labels = np.arange(len(self.parent), len(self.parent) + size)
        self.parent += labels.tolist()
        return labels

    def find(self, label: int) -> int:
        while self.parent[label] != label:
            label = self.parent[label]
        return label

    def unify(self, a: np.ndarray, b: np.ndarray) -> None:
        for x, y in zip(a.tolist(), b.tolist(), strict=True):
            self.parent[self.find(x)] = self.find(y)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_without_products_units_are_exactly_the_classes_of_entries(data: st.DataObject) -> None:
    # even sizes and even cuts leave no piece of one entry, which would never be a unit
    program, labels = Program(), Labels()
    even = st.integers(1, 6).map(lambda n: 2 * n)
    for size in data.draw(st.lists(even, min_size=2, max_size=4)):
        program.new(size)
        labels.axes.append(labels.new(size))
    for _ in range(data.draw(st.integers(1, 10))):
        k = data.draw(st.integers(0, len(program.axes) - 1))
        one = program.axes[k]
        match data.draw(st.sampled_from(["concat", "unify", "cut"])):
            case "concat" if one.size <= LARGEST // 2:
                other = data.draw(st.sampled_from(range(len(program.axes))))
                program.axes.append(program.dims.concat([one, program.axes[other]]))
                labels.axes.append(np.concatenate([labels.axes[k], labels.axes[other]]))
            case "unify":
                equal = [i for i, axis in enumerate(program.axes) if axis.size == one.size]
                other = data.draw(st.sampled_from(equal))
                program.unify(one, program.axes[other])
                labels.unify(labels.axes[k], labels.axes[other])
            case "cut" if one.size > 2:
                at = 2 * data.draw(st.integers(1, one.size // 2 - 1))
                pieces = program.dims.cut(one, [at])
                assert pieces is not None
                program.axes += pieces
                labels.axes += [labels.axes[k][:at], labels.axes[k][at:]]
    found = set()
    for atom in program.atoms():
        assert not program.dims.reasons(atom)
        for unit in range(atom.size):
            masks = {atom: np.arange(atom.size) != unit}
            gone = [
                (axis, place)
                for axis, dim in enumerate(program.axes)
                for place in np.flatnonzero(~program.dims.kept(dim, masks)).tolist()
            ]
            found.add(frozenset(gone))
    classes: dict[int, set[tuple[int, int]]] = {}
    for axis, row in enumerate(labels.axes):
        for place, label in enumerate(row.tolist()):
            classes.setdefault(labels.find(label), set()).add((axis, place))
    assert found == {frozenset(places) for places in classes.values()}


@settings(max_examples=33, deadline=None)
@given(st.data())
def test_with_lists_every_unit_is_a_class_of_entries_and_all_units_of_an_atom_occur_alike(
    data: st.DataObject,
) -> None:
    program, labels = Program(), Labels()
    for size in data.draw(st.lists(st.integers(2, 9), min_size=1, max_size=3)):
        program.new(size)
        labels.axes.append(labels.new(size))
    for _ in range(data.draw(st.integers(1, 10))):
        k = data.draw(st.integers(0, len(program.axes) - 1))
        one, row = program.axes[k], labels.axes[k]
        match data.draw(st.sampled_from(["permute", "choose", "concat", "unify", "unify", "cut"])):
            case "permute" | "choose" as how:
                several = st.lists(st.integers(0, one.size - 1), min_size=1, max_size=12)
                orders = st.permutations(range(one.size)) if how == "permute" else several
                index = np.array(data.draw(orders))
                program.take(one, index)
                assert (
                    len(program.axes) == len(labels.axes) + 1
                )  # without products it always is one
                labels.axes.append(row[index])
            case "concat" if one.size <= LARGEST // 2:
                other = data.draw(st.sampled_from(range(len(program.axes))))
                if program.axes[other].size <= LARGEST // 2:
                    program.join("concat", [one, program.axes[other]])
                    labels.axes.append(np.concatenate([row, labels.axes[other]]))
            case "unify":
                equal = [i for i, axis in enumerate(program.axes) if axis.size == one.size > 1]
                if equal:
                    other = data.draw(st.sampled_from(equal))
                    program.unify(one, program.axes[other])
                    labels.unify(row, labels.axes[other])
            case "cut" if one.size > 2:
                at = data.draw(st.integers(1, one.size - 1))
                program.cut(one, [at])
                assert len(program.axes) == len(labels.axes) + 2
                labels.axes += [row[:at], row[at:]]
    classes: dict[int, set[tuple[int, int]]] = {}
    for axis, row in enumerate(labels.axes):
        for place, label in enumerate(row.tolist()):
            classes.setdefault(labels.find(label), set()).add((axis, place))
    wanted = set(map(frozenset, classes.values()))
    for atom in program.atoms():
        assert not program.dims.reasons(atom)
        occur = set()
        for unit in range(atom.size):
            masks = {atom: np.arange(atom.size) != unit}
            gone = [~program.dims.kept(dim, masks) for dim in program.axes]
            assert {
                (axis, int(k)) for axis, row in enumerate(gone) for k in np.flatnonzero(row)
            } in wanted
            occur.add(tuple(int(row.sum()) for row in gone))
        assert len(occur) == 1


def _ends(sizes: list[int]) -> set[int]:
    return set(accumulate(sizes, lambda a, b: a * b))


factors = st.lists(st.sampled_from([2, 3, 4]), min_size=1, max_size=4)


@settings(max_examples=100, deadline=None)
@given(factors, st.permutations(range(4)), st.lists(st.booleans(), min_size=3, max_size=3))
def test_two_factorisations_have_the_atoms_of_their_common_refinement(
    left: list[int], order: list[int], merged: list[bool]
) -> None:
    right = [left[k] for k in order if k < len(left)]
    for k, merge in reversed(list(enumerate(merged))):
        if merge and k + 1 < len(right):
            right[k : k + 2] = [right[k] * right[k + 1]]
    dims = Dims()
    a, b = (dims.product([dims.new(n) for n in sizes]) for sizes in (left, right))
    dims.unify(a, b, MIXED)
    ends = [1, *sorted(_ends(left) | _ends(right))]
    if all(high % low == 0 for low, high in pairwise(ends)):
        assert [atom.size for atom in dims.atoms(a)] == [
            high // low for low, high in pairwise(ends)
        ]
        assert dims.same(a, b)
        assert not dims.reasons(a)
    else:
        assert all(map(dims.reasons, [*dims.atoms(a), *dims.atoms(b)]))
