"""Budgets, against removing units one by one by hand; masks; widths."""

import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wormjax.structure import find_groups, plan

INPUTS, OUTPUTS, BATCH = 5, 3, 7
SIZES = {"a": 8, "b": 6, "c": 12}


def network(params, x):
    """A chain of three hidden layers."""
    for name in SIZES:
        x = jnp.tanh(x @ params[name]["kernel"] + params[name]["bias"])
    return x @ params["out"]


def start(seed=0):
    rng = np.random.default_rng(seed)
    params, before = {}, INPUTS
    for name, size in SIZES.items():
        params[name] = {
            "kernel": rng.normal(size=(before, size)),
            "bias": rng.normal(size=(1, size)),
        }
        before = size
    params["out"] = rng.normal(size=(before, OUTPUTS))
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)


PARAMS = start()
GROUPS = find_groups(network, PARAMS, jnp.ones((BATCH, INPUTS)))
NAMES = {"a": "a/bias:1", "b": "b/bias:1", "c": "c/bias:1"}


def scores_of(seed=1, params=PARAMS):
    """Scores on the biases only: one number a unit, some of them equal."""
    rng = np.random.default_rng(seed)
    scores = jax.tree.map(lambda _: jnp.zeros(()), params)
    for name, size in SIZES.items():
        scores[name]["bias"] = jnp.asarray(rng.integers(0, 9, (1, size)), jnp.float32)
    return scores


def parameters(widths):
    """Counted from the architecture."""
    sizes = [INPUTS, *(widths[name] for name in SIZES), OUTPUTS]
    return sum(m * n for m, n in itertools.pairwise(sizes)) + sum(sizes[1:-1])


def macs(widths):
    sizes = [INPUTS, *(widths[name] for name in SIZES), OUTPUTS]
    return BATCH * sum(m * n for m, n in itertools.pairwise(sizes))


def one_by_one(scores, cost, ratio, minimum=1, step=1):
    """Remove the unit with the least score until the cost is within the budget."""

    def rounded(kept):
        return {n: min(-(-len(k) // step) * step, SIZES[n]) for n, k in kept.items()}

    kept = {name: list(range(size)) for name, size in SIZES.items()}
    units = [
        (float(scores[n]["bias"][0, i]), -k, n, i)
        for k, (n, i) in enumerate((n, i) for n in SIZES for i in range(SIZES[n]))
    ]
    for _, _, name, index in sorted(units):
        if cost(rounded(kept)) <= ratio * cost(SIZES):
            break
        if len(kept[name]) > minimum:
            kept[name].remove(index)
    assert cost(rounded(kept)) <= ratio * cost(SIZES)
    masks = {}
    for name, size in SIZES.items():
        # what rounding brings back is the best of what went, the first of equals
        row = np.asarray(scores[name]["bias"])[0]
        order = sorted(range(size), key=lambda i: (-row[i], i))
        masks[NAMES[name]] = np.isin(np.arange(size), order[: rounded(kept)[name]])
    return masks


def assert_kept(made, masks):
    assert made.kept.keys() == masks.keys()
    for name, mask in masks.items():
        np.testing.assert_array_equal(made.kept[name], mask, err_msg=name)


@pytest.mark.parametrize("budget", ["params", "macs"])
@pytest.mark.parametrize("ratio", ["0.9", "0.5", "1/4"])
@pytest.mark.parametrize(("minimum", "step"), [(1, 1), (2, 1), (1, 2)])
def test_budget_takes_the_fewest_removals(budget, ratio, minimum, step):
    scores, cost = scores_of(), {"params": parameters, "macs": macs}[budget]
    limit = Fraction(ratio)
    made = plan(GROUPS, scores, **{budget: limit}, minimum=minimum, round_to=step)
    assert_kept(made, one_by_one(scores, cost, limit, minimum, step))
    before, after = made.parameters if budget == "params" else made.macs
    widths = {name: made.widths[group] for name, group in NAMES.items()}
    assert (before, after) == (cost(SIZES), cost(widths))
    assert after <= limit * before


@pytest.mark.parametrize(("keep", "removed"), [("0.5", 13), ("0.9", 2), (1, 0), ("0.29", 18)])
def test_keep_is_exact(keep, removed):
    made = plan(GROUPS, scores_of(), keep=keep)
    assert sum(int((~kept).sum()) for kept in made.kept.values()) == removed
    assert_kept(
        made, one_by_one(scores_of(), lambda w: sum(w.values()), Fraction(26 - removed, 26))
    )


def test_every_group_by_itself():
    scores = scores_of()
    made = plan(GROUPS, scores, keep="0.3", scope="group")
    for name, size in SIZES.items():
        row = np.asarray(scores[name]["bias"])[0]
        order = sorted(range(size), key=lambda i: (row[i], -i))
        removed = order[: int(Fraction(7, 10) * size)]
        np.testing.assert_array_equal(np.flatnonzero(~made.kept[NAMES[name]]), sorted(removed))


def test_a_group_keeps_its_minimum_and_a_small_one_everything():
    made = plan(GROUPS, scores_of(), keep="0.1", scope="group", minimum=7)
    assert list(made.widths.values()) == [7, 6, 7]


def test_widths_are_rounded_up_within_the_group():
    made = plan(GROUPS, scores_of(), keep="0.6", scope="group", round_to=4)
    # 5 of 8, 4 of 6, 8 of 12 are wanted
    assert list(made.widths.values()) == [8, 4, 8]


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ("sum", [4.0, 3.0]),
        ("mean", [4 / 3, 1.0]),
        ("max", [2.0, 3.0]),
        ("norm", [np.sqrt(6), 3.0]),
    ],
)
def test_scores_are_aggregated_over_all_slices(aggregate, expected):
    groups = find_groups(
        lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"],
        {"a": jnp.ones((1, 2)), "b": jnp.ones((2, 2))},
        jnp.ones((1, 1)),
    )
    scores = {"a": jnp.array([[2.0, 0.0]]), "b": jnp.array([[1.0, 1.0], [0.0, 3.0]])}
    made = plan(groups, scores, keep="0.5", aggregate=aggregate)
    assert made.kept["a:1"].tolist() == [expected[0] >= expected[1], expected[0] < expected[1]]


def test_normalising_makes_groups_comparable():
    scores = scores_of()
    scores["a"]["bias"] = jnp.arange(1, 9, dtype=jnp.float32)[None] * 1e6
    scores["b"]["bias"] = jnp.ones((1, 6))
    scores["c"]["bias"] = jnp.ones((1, 12))
    assert plan(GROUPS, scores, keep="0.9").widths["a/bias:1"] == 8
    made = plan(GROUPS, scores, keep="0.9", normalise="mean")
    assert made.kept["a/bias:1"].tolist() == [False] * 2 + [True] * 6


def test_a_group_without_a_score_stays_whole():
    scores = scores_of()
    scores["b"]["bias"] = jnp.zeros(())
    made = plan(GROUPS, scores, keep="0.2")
    assert made.widths["b/bias:1"] == 6
    assert made.widths["a/bias:1"] + made.widths["c/bias:1"] == 4


@pytest.mark.parametrize("exclude", ["^b/", lambda name, leaf: leaf.shape == (1, 6), ["b/bias"]])
def test_an_excluded_group_stays_whole(exclude):
    made = plan(GROUPS, scores_of(), keep="0.2", exclude=exclude)
    # the kernel of b lies on the group of a, too
    assert made.widths["b/bias:1"] == 6
    assert (made.widths["a/bias:1"] == 8) == (exclude == "^b/")


def test_masks_of_a_plan_are_every_slice_of_the_removed_units():
    made = plan(GROUPS, scores_of(), keep="0.5")
    full = jax.tree.map(lambda m, p: np.broadcast_to(m, p.shape), made.masks, PARAMS)
    kept = [np.ones(INPUTS, bool), *(made.kept[NAMES[n]] for n in SIZES), np.ones(OUTPUTS, bool)]
    for k, name in enumerate([*SIZES, "out"]):
        kernel = full[name]["kernel"] if name in SIZES else full[name]
        np.testing.assert_array_equal(kernel, kept[k][:, None] & kept[k + 1][None])
    for k, name in enumerate(SIZES):
        np.testing.assert_array_equal(full[name]["bias"][0], kept[k + 1])
    assert sum(int(m.sum()) for m in jax.tree.leaves(full)) == made.parameters[1]
