"""Every sentence that plan refuses with."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import pytest

from wormjax.structure import find_groups, plan


def apply(params, x):
    return jnp.tanh(x @ params["a"] + params["bias"]) @ params["b"]


PARAMS = {"a": jnp.ones((2, 4)), "bias": jnp.ones((1, 4)), "b": jnp.ones((4, 3))}
GROUPS = find_groups(apply, PARAMS, jnp.ones((5, 2)))
SCORES = PARAMS
MASKS = jax.tree.map(lambda _: jnp.array(True), PARAMS)
NOTHING = jax.tree.map(lambda _: jnp.zeros(()), PARAMS)

WRONG = {
    "no budget": ({}, "takes exactly one of keep=, params=, macs=, latency= and masks="),
    "two budgets": ({"keep": 0.5, "macs": 0.5}, "takes exactly one of"),
    "masks and a budget": ({"keep": 0.5, "masks": MASKS}, "takes exactly one of"),
    "keep above one": ({"keep": 1.5}, r"keep must lie in \(0, 1\], got 1.5: it is the fraction to"),
    "keep a percentage": ({"params": 50}, r"params must lie in \(0, 1\], got 50"),
    "nothing to keep": ({"macs": 0}, r"macs must lie in \(0, 1\], got 0"),
    "no number": ({"keep": "half"}, "keep must be a finite decimal number, got 'half'"),
    "minimum": ({"keep": 0.5, "minimum": 0}, "minimum=0 must be at least 1: a group never goes"),
    "round_to": ({"keep": 0.5, "round_to": 0}, "round_to must be at least 1, or 'auto', got 0"),
    "scope and params": ({"params": 0.5, "scope": "group"}, "scope='group' goes with keep=, not"),
    "scope and masks": ({"masks": MASKS, "scope": "group"}, "not with masks="),
    "no scores": ({"keep": 0.5, "scores": None}, r"plan\(keep=...\) ranks units and needs scores"),
    "unranked": (
        {"keep": 0.5, "scores": NOTHING},
        "No group has a score: the ranked leaves lie on",
    ),
    "nan": ({"keep": 0.5, "scores": {**SCORES, "a": jnp.full((2, 4), jnp.nan)}}, "'a'"),
    "everything excluded": ({"keep": 0.5, "exclude": "bias"}, "leave no group that may be pruned"),
    "exclude matches nothing": (
        {"keep": 0.5, "exclude": "conv"},
        "The rule 'conv' matches no leaf",
    ),
    "too few units": (
        {"keep": 0.25, "minimum": 2},
        "keep=0.25 cannot be met: 50.0% remain where every scored group has its least width. Lower minimum",
    ),
    "a fraction": ({"params": Fraction(1, 10)}, r"params=0.1 cannot be met: 25.0% remain"),
    "too few parameters": ({"params": 0.1}, r"params=0.1 cannot be met: 25.0% remain"),
    "too few operations": ({"macs": 0.5, "round_to": 3}, r"macs=0.5 cannot be met: 75.0% remain"),
    "masks of another tree": ({"masks": {"a": jnp.array(True)}}, "masks have another structure"),
    "masks that free no unit": (
        {"masks": {**MASKS, "a": jnp.arange(8).reshape(2, 4) != 3}},
        "The masks prune entries of 'a', but no unit of any group that may be pruned is masked on all",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_refused(case):
    given, sentence = WRONG[case]
    with pytest.raises(ValueError, match=sentence):
        plan(
            GROUPS, given.get("scores", SCORES), **{k: v for k, v in given.items() if k != "scores"}
        )


def test_masks_that_prune_nothing_are_a_plan_that_removes_nothing():
    made = plan(GROUPS, masks=MASKS)
    assert all(kept.all() for kept in made.kept.values())
    assert made.parameters == (24, 24)


def test_one_unit_is_always_left():
    assert plan(GROUPS, SCORES, macs=0.25).widths == {"a:1": 1}


def test_with_a_state_apply_returns_a_pair():
    def no_pair(params, state, x):
        return apply(params, x)

    with pytest.raises(
        ValueError, match=r"must return the pair \(output, new_state\); it returned"
    ):
        find_groups(no_pair, PARAMS, jnp.ones((5, 2)), state={"mean": jnp.ones(4)})
