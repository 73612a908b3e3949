"""Which entries belong to a unit: against enumeration of index tuples."""

import itertools

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wormjax.structure import find_groups
from wormjax.structure._dims import Dims
from wormjax.structure._units import Line, by_leaf, first_count, unit_entries, units_along

NONE = -1


def enumerated(dims, dim, atom):
    """The set of units of each index, by walking through the structure."""
    root, target = dims.find(dim), dims.find(atom)
    if root is target:
        return [{i} for i in range(root.size)]
    parts = [enumerated(dims, part, atom) for part in root.parts]
    if root.kind == "concat":
        return [units for part in parts for units in part]
    if root.kind == "product":
        return [set().union(*each) for each in itertools.product(*parts)]
    return [set()] * root.size


def axes(dims, a, b):
    """Axes of every structure over two atoms of sizes 3 and 2."""
    return {
        "itself": a,
        "another": b,
        "merged": dims.product([b, a]),
        "merged first": dims.product([a, b]),
        "joined": dims.concat([b, a]),
        "joined twice": dims.concat([a, dims.new(4), a]),
        "with itself": dims.product([a, a]),
        "three times": dims.product([a, b, a, a]),
        "joined heads": dims.concat([dims.product([b, a]), dims.product([a, a]), b]),
        "heads of joined": dims.product([b, dims.concat([a, b, a])]),
    }


@pytest.fixture
def atoms():
    dims = Dims()
    return dims, dims.new(3), dims.new(2)


@pytest.mark.parametrize("name", axes(Dims(), Dims().new(3), Dims().new(2)))
def test_the_units_of_every_index(name, atoms):
    dims, a, b = atoms
    dim = axes(dims, a, b)[name]
    table = units_along(dims, dim, a)
    assert table.shape[0] == dim.size
    for row, units in zip(table, enumerated(dims, dim, a), strict=True):
        told = [u for u in row if u != a.size]
        assert sorted(told) == sorted(units)  # each once


def test_the_entries_of_a_unit_are_counted_once(atoms):
    dims, a, b = atoms
    every = axes(dims, a, b)
    names = ("itself", "another", "merged", "joined twice", "with itself", "joined heads")
    for first, second in itertools.product(names, repeat=2):
        shape = every[first].size, every[second].size
        along = [
            Line(axis, column)
            for axis, name in enumerate((first, second))
            for column in units_along(dims, every[name], a).T
        ]
        sets = [enumerated(dims, every[name], a) for name in (first, second)]
        expected = np.zeros((a.size, *shape), int)
        for i, j in np.ndindex(*shape):
            for unit in sets[0][i] | sets[1][j]:
                expected[unit, i, j] = 1
        counted = np.zeros((a.size + 1, *shape), int)
        for k, (axis, units) in enumerate(along):
            counts = first_count(along, k, 2, np)
            mask = np.broadcast_to(True if counts is None else counts, shape)
            for i, j in np.ndindex(*shape):
                counted[units[(i, j)[axis]], i, j] += mask[i, j]
        np.testing.assert_array_equal(counted[: a.size], expected)
        assert unit_entries([shape], {0: along}) == expected[0].sum()
        assert len({x.sum() for x in expected}) == 1  # all units have as many


def net(params, x):
    return jnp.tanh(x @ params["a"]["w"]) @ params["b"]


def test_leaves_of_a_part_are_found_by_their_names():
    params = {"a": {"w": jnp.ones((2, 3))}, "b": jnp.ones((3, 1))}
    groups = find_groups(net, params, jnp.ones((1, 2)))
    assert list(by_leaf(groups, params, "masks")) == [0, 1]
    assert by_leaf(groups, {"a": optax.MaskedNode(), "b": 7}, "masks") == {1: 7}
    assert by_leaf(groups, {"a": {"w": 5}, "b": optax.MaskedNode()}, "masks") == {0: 5}
    with pytest.raises(
        ValueError, match="'b' is a leaf of only one of the masks and the parameters"
    ):
        by_leaf(groups, {"a": {"w": 5}}, "masks")
    with pytest.raises(
        ValueError, match="'c' is a leaf of only one of the masks and the parameters"
    ):
        by_leaf(groups, {"c": 5, "b": optax.MaskedNode()}, "masks")
