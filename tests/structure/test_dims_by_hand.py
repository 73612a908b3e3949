"""Symbolic axes, case by case: permutations, factors and pieces that meet."""

import numpy as np
import pytest

from wormjax.structure._dims import Dims, Reason

MIXED = Reason("they were mixed")
HELD = Reason("it is held")


def test_a_permutation_that_meets_what_it_permutes_ties_its_cycles() -> None:
    dims = Dims()
    axis = dims.new(8)
    order = np.array([1, 0, 3, 2, 5, 6, 7, 4])  # two swaps, and a cycle of four
    other = dims.take(axis, order)
    assert other is not None
    assert not dims.same(axis, other)
    dims.unify(axis, other, MIXED)
    assert dims.same(axis, other)
    [swaps] = dims.atoms(axis)  # the cycle of four is one thing alone, and never goes
    kept = dims.kept(axis, {swaps: np.array([True, False])})
    assert kept.tolist() == [True, True, False, False, True, True, True, True]


def test_a_shuffle_as_a_list_meets_the_factors_of_another_layout() -> None:
    dims = Dims()
    groups, inside = dims.new(3), dims.new(4)
    before = dims.product([groups, inside])
    after = dims.take(before, np.arange(12).reshape(3, 4).T.ravel())
    assert after is not None
    rows, columns = dims.factor(after, [4, 3], MIXED)
    assert dims.same(rows, inside)
    assert dims.same(columns, groups)
    assert not dims.reasons(after)


def test_lists_that_no_dim_says_are_refused_or_fixed() -> None:
    dims = Dims()
    product = dims.product([dims.new(2), dims.new(3)])
    assert dims.take(product, np.array([0, 1, 5])) is None
    after = dims.take(product, np.array([1, 0, 2, 3, 4, 5]))
    assert after is not None
    dims.unify(after, dims.product([dims.new(2), dims.new(3)]), MIXED)
    assert dims.reasons(product) == [MIXED]


def test_stacked_equal_pieces_are_one_axis() -> None:
    dims = Dims()
    a, b = dims.new(4), dims.new(4)
    slow, fast = dims.factor(dims.concat([a, b]), [2, 4], MIXED)
    assert dims.same(a, b)
    assert dims.same(fast, a)
    assert not dims.same(dims.concat([a, b]), dims.concat([a, b, a]))
    assert dims.kept(slow, {}).all()
    assert not dims.reasons(a)


def test_a_concatenation_inside_a_factor_is_shared_by_all_its_copies() -> None:
    dims = Dims()
    pieces = [dims.new(n) for n in (2, 3, 1, 4)]
    dims.factor(dims.concat(pieces), [2, 5], MIXED)
    assert dims.find(pieces[0]).size == 2  # 2 + 3 over 1 + 4 is cut at 1 and at 2
    assert [atom.size for atom in dims.atoms(pieces[1])] == [3]
    mask = np.array([False, True, True])
    assert dims.kept(pieces[3], {dims.find(pieces[1]): mask}).tolist() == [True, *mask]


def test_pieces_that_do_not_fit_the_factors_stay_whole() -> None:
    dims = Dims()
    a, b = dims.new(3), dims.new(5)
    dims.factor(dims.concat([a, b]), [4, 2], MIXED)
    assert (
        [str(r) for r in dims.reasons(a)]
        == [str(r) for r in dims.reasons(b)]
        == ["they were mixed"]
    )


def test_a_product_is_cut_between_whole_runs_only() -> None:
    dims = Dims()
    slow, fast = dims.new(6), dims.new(2)
    product = dims.product([slow, fast])
    assert dims.cut(product, [3]) is None
    head, tail = dims.cut(product, [4]) or ()
    assert [atom.size for atom in dims.atoms(head)] == [2, 2]
    assert [atom.size for atom in dims.atoms(tail)] == [4, 2]
    assert (
        dims.same(product, dims.concat([head, tail])) is False
    )  # equal entries, another structure
    assert not dims.reasons(product)


def test_a_structure_found_later_is_known_to_all_who_share_the_atom() -> None:
    dims = Dims()
    kernel, bias, activation = dims.new(8), dims.new(8), dims.new(8)
    dims.unify(kernel, activation, MIXED)
    dims.unify(bias, activation, MIXED)
    heads, width = dims.factor(activation, [2, 4], MIXED)
    mask = np.array([True, False, True, True])
    for axis in (kernel, bias):
        assert dims.kept(axis, {dims.find(width): mask}).tolist() == [*mask, *mask]
    dims.fix(kernel, HELD)
    assert [str(r) for r in dims.reasons(heads)] == ["it is held"]


def test_axes_of_different_sizes_are_refused() -> None:
    dims = Dims()
    with pytest.raises(ValueError, match="axes of 3 and 4 entries cannot be the same axis"):
        dims.unify(dims.new(3), dims.new(4), MIXED)


def test_one_entry_is_never_a_unit() -> None:
    dims = Dims()
    one = dims.new(1)
    dims.unify(one, dims.new(1), MIXED)
    assert dims.atoms(one) == []
    assert [atom.size for atom in dims.atoms(dims.concat([one, dims.new(3)]))] == [3]


def test_a_reason_names_primitive_and_line() -> None:
    reason = Reason("it is a spatial axis", "conv_general_dilated", "model.py:12")
    assert str(reason) == "it is a spatial axis [conv_general_dilated at model.py:12]"
    assert str(Reason("it is an axis of the model's input")) == "it is an axis of the model's input"
    dims = Dims()
    atom = dims.new(3)
    for _ in range(2):
        dims.fix(atom, reason)
    assert dims.reasons(atom) == [reason]
