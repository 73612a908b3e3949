"""Unit scores against loops over entries in NumPy: every entry once, whatever axes carry the unit."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wormjax import scores
from wormjax.structure import Plan, UnitScores, find_groups, plan, unit_scores


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def chain(params, x):
    """Two hidden groups, each on a kernel's columns, a scale, and the next kernel's rows."""
    h = jnp.tanh(x @ params["a"] * params["scale"])
    return jnp.tanh(h @ params["b"]) @ params["c"]


def stream(params, x):
    """A residual stream: the square kernel carries it on both axes."""
    h = x @ params["up"]
    return (h + jnp.tanh(h @ params["square"])) @ params["down"]


def heads(params, x):
    """Two groups on one merged axis: the heads, and the entries within a head, alike in every head."""
    h = (x @ params["q"]).reshape(-1, 2, 3)
    return jnp.einsum("nhd,hdk->nk", jnp.tanh(h), params["o"])


def halves(params, x):
    """A concatenation: each of two groups lies on a half of the kernel's rows."""
    return jnp.concatenate([jnp.tanh(x @ params["a"]), x @ params["b"]], axis=1) @ params["c"]


NETS = {
    "chain": (
        chain,
        {"a": (3, 4), "scale": (1, 4), "b": (4, 5), "c": (5, 2)},
        {"a:1": 4, "b:1": 5},
    ),
    "stream": (stream, {"up": (3, 4), "square": (4, 4), "down": (4, 2)}, {"down:0": 4}),
    "heads": (heads, {"q": (3, 6), "o": (2, 3, 2)}, {"o:0": 2, "o:1": 3}),
    "halves": (halves, {"a": (3, 4), "b": (3, 2), "c": (6, 2)}, {"a:1": 4, "b:1": 2}),
}


def net(name):
    apply, shapes, sizes = NETS[name]
    params = {k: normal(i, *shape) for i, (k, shape) in enumerate(shapes.items())}
    groups = find_groups(apply, params, jnp.ones((1, 3)))
    assert {g.name: g.size for g in groups} == sizes
    return groups, params


def entries(groups, params, name, unit):
    """What goes with a unit, read off the masks of the plan that removes this unit alone: path -> mask."""
    kept = {g.name: np.ones(g.size, bool) for g in groups}
    kept[name][unit] = False
    masks = Plan(groups, kept).masks
    return {k: ~np.broadcast_to(np.asarray(m), params[k].shape) for k, m in masks.items()}


ORACLES = {
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "norm": lambda x: np.sqrt(np.sum(x**2)),
    "joint": lambda x: np.abs(np.sum(x)),
}


@pytest.mark.parametrize("aggregate", ORACLES)
@pytest.mark.parametrize("name", NETS)
def test_every_entry_of_a_unit_counts_once(name, aggregate):
    groups, params = net(name)
    found = unit_scores(groups, params, aggregate)  # the weights themselves, of both signs
    assert list(found) == [g.name for g in groups]
    for group in groups:
        for unit in range(group.size):
            mine = entries(groups, params, group.name, unit)
            values = np.concatenate([np.float64(params[k])[mine[k]] for k in params])
            assert values.size > 1
            np.testing.assert_allclose(
                found[group.name][unit], ORACLES[aggregate](values), rtol=1e-12
            )


def test_the_entries_of_a_residual_stream_by_hand():
    groups, params = net("stream")
    p = jax.tree.map(np.float64, params)
    square = np.abs(p["square"])
    expected = [
        np.abs(p["up"][:, c]).sum()
        + np.abs(p["down"][c]).sum()
        + (square[c].sum() + square[:, c].sum() - square[c, c])
        for c in range(4)
    ]
    l1 = unit_scores(groups, jax.tree.map(jnp.abs, params))["down:0"]
    np.testing.assert_allclose(l1, expected, rtol=1e-12)


def test_l1_and_l2_norms_of_filters_are_the_papers():
    # ranked: a's kernel alone, so a unit is a filter; Li et al. 2017 sum |w| over it
    groups, params = net("chain")
    only = scores.magnitude(params, prunable={"a": True, "b": False, "c": False, "scale": False})
    a = np.float64(params["a"])
    assert list(unit_scores(groups, only)) == ["a:1"]
    np.testing.assert_allclose(unit_scores(groups, only)["a:1"], np.abs(a).sum(axis=0), rtol=1e-12)
    l2 = unit_scores(groups, only, aggregate="norm")["a:1"]
    np.testing.assert_allclose(l2, np.linalg.norm(a, axis=0), rtol=1e-12)


def test_a_score_for_each_channel_counts_once_and_not_for_each_entry():
    groups, params = net("chain")
    tree = jax.tree.map(lambda _: jnp.array(jnp.inf), params)
    tree["a"] = jnp.array([[4.0, 3.0, 2.0, 1.0]])  # one score a column of a (3, 4) kernel
    found = unit_scores(groups, tree)
    assert {k: v.tolist() for k, v in found.items()} == {"a:1": [4, 3, 2, 1]}


def test_a_leaf_that_tells_no_units_apart_says_nothing_of_them():
    groups, params = net("chain")
    tree = jax.tree.map(lambda _: jnp.array(jnp.inf), params)
    tree["b"] = jnp.arange(5.0)[None]  # for b's columns; size 1 along its rows, which are a's units
    assert list(unit_scores(groups, tree)) == ["b:1"]


def lamp_by_loops(units):
    """Lee et al. 2021, equation 1, over the units sorted in ascending order."""
    order = sorted(range(len(units)), key=lambda u: (units[u], -u))
    result = np.zeros(len(units))
    for place, u in enumerate(order):
        result[u] = units[u] ** 2 / sum(units[v] ** 2 for v in order[place:])
    return result


def test_lamp_is_the_papers_formula():
    groups, params = net("chain")
    for aggregate in ("sum", "norm", "max"):
        plain = unit_scores(groups, scores.magnitude(params), aggregate)
        lamp = unit_scores(groups, scores.magnitude(params), aggregate, "lamp")
        for name, units in plain.items():
            np.testing.assert_allclose(lamp[name], lamp_by_loops(units), rtol=1e-12)
            assert lamp[name].max() == 1.0
            np.testing.assert_array_equal(np.argsort(lamp[name]), np.argsort(units))


def test_lamp_by_hand_with_ties_zeros_and_any_scale():
    groups, _ = net("chain")
    units = UnitScores({"a:1": np.array([2.0, 1.0, 2.0, 0.0]), "b:1": np.zeros(5)})
    lamp = unit_scores(groups, units, normalise="lamp")
    # ascending: 0, 1, then the later of the two 2s, then the first; of equal units the last goes first
    np.testing.assert_allclose(lamp["a:1"], [1, 1 / 9, 1 / 2, 0])
    assert lamp["b:1"].tolist() == [0] * 5
    for scale in (1e-200, 1e200):
        scaled = UnitScores({"a:1": scale * units["a:1"]})
        np.testing.assert_allclose(
            unit_scores(groups, scaled, normalise="lamp")["a:1"], lamp["a:1"]
        )


def test_under_lamp_a_global_ranking_empties_no_group():
    groups, params = net("chain")
    tiny = params | {"b": 1e-6 * params["b"], "c": 1e-6 * params["c"]}
    plain = plan(groups, scores.magnitude(tiny), keep=0.34)
    lamp = plan(groups, scores.magnitude(tiny), keep=0.34, normalise="lamp")
    assert plain.widths == {"a:1": 3, "b:1": 1}  # the minimum of one, by force
    assert sum(lamp.widths.values()) == 4
    assert min(lamp.widths.values()) >= 1
    assert lamp.widths != plain.widths


@pytest.mark.parametrize(
    ("normalise", "size"),
    [
        ("mean", lambda u: np.abs(u).mean()),
        ("max", lambda u: np.abs(u).max()),
        ("norm", lambda u: np.sqrt((u**2).mean())),
    ],
)
def test_normalised_groups_have_size_one(normalise, size):
    groups, params = net("chain")
    plain = unit_scores(groups, scores.magnitude(params))
    normalised = unit_scores(groups, scores.magnitude(params), normalise=normalise)
    for name, units in plain.items():
        np.testing.assert_allclose(normalised[name], units / size(units), rtol=1e-12)
        assert size(normalised[name]) == pytest.approx(1)


def test_unit_scores_stand_in_for_a_tree():
    groups, params = net("heads")
    tree = scores.magnitude(params)
    for how in itertools.product(("sum", "norm"), ("none", "max")):
        told = unit_scores(groups, tree, how[0])
        by_units = plan(groups, told, keep=0.5, normalise=how[1])
        by_tree = plan(groups, tree, keep=0.5, aggregate=how[0], normalise=how[1])
        jax.tree.map(np.testing.assert_array_equal, dict(by_units.kept), dict(by_tree.kept))


def test_what_it_refuses():
    groups, params = net("chain")
    tree = scores.magnitude(params)
    with pytest.raises(ValueError, match="'scale' is missing"):
        unit_scores(groups, {k: v for k, v in tree.items() if k != "scale"})
    with pytest.raises(ValueError, match=r"score at 'a' has shape \(2, 4\)"):
        unit_scores(groups, tree | {"a": jnp.ones((2, 4))})
    with pytest.raises(ValueError, match="'b' holds NaN or infinity"):
        unit_scores(groups, tree | {"b": jnp.full((4, 5), jnp.nan)})
    with pytest.raises(ValueError, match="lamp' squares the scores, and a unit of 'a:1' scores"):
        unit_scores(groups, jax.tree.map(lambda x: -jnp.abs(x), params), normalise="lamp")
    with pytest.raises(ValueError, match=r"3 scores for 'a:1', and the groups have 4 units"):
        unit_scores(groups, UnitScores({"a:1": np.ones(3)}))
    with pytest.raises(ValueError, match=r"scores for 'z', and the groups have no such units"):
        unit_scores(groups, UnitScores({"z": np.ones(3)}))
    with pytest.raises(ValueError, match="units of 'a:1' hold NaN or infinity"):
        unit_scores(groups, UnitScores({"a:1": np.array([1, np.inf, 2, 3])}))
