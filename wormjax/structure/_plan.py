"""Deciding which units go: by scores under a budget, or by given masks."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Literal

import jax
import numpy as np
from jaxtyping import Array, Bool, PyTree

from wormjax._counts import as_fraction
from wormjax._prunable import Rule, prunable
from wormjax.structure._alignment import Alignment
from wormjax.structure._budget import Ranking, Units, Widths, best, rounded
from wormjax.structure._budget_costs import Costs
from wormjax.structure._groups import Group, Groups
from wormjax.structure._planned import Plan
from wormjax.structure._streams import streams
from wormjax.structure._trade import trade
from wormjax.structure._unit_masks import unit_masks
from wormjax.structure._unit_scores import Aggregate, Normalise, unit_scores

Ratio = float | int | str | Fraction


def plan(
    groups: Groups,
    scores: PyTree | None = None,
    *,
    keep: Ratio | None = None,
    params: Ratio | None = None,
    macs: Ratio | None = None,
    latency: Ratio | None = None,
    masks: PyTree[Bool[Array, "..."]] | None = None,
    aggregate: Aggregate = "sum",
    normalise: Normalise = "none",
    scope: Literal["global", "group"] = "global",
    minimum: int = 1,
    round_to: int | Literal["auto"] = 1,
    exclude: Rule | Sequence[Rule] = (),
    residual: Literal["union", "whole"] = "union",
    alignment: Alignment | None = None,
) -> Plan:
    """Decide which units go: by scores under a budget, or by given masks.

    Under a budget the units of all groups are ranked together and go one by one, the least score first, until the
    budget is met: no more go than that takes. Under ``latency=`` the block of units goes first that costs the least
    score for each microsecond that it saves, by the measured table of widths (a model; see `Alignment.seconds`).
    Widths are rounded up, so that a unit may stay which the ranking would remove, and never the other way round.
    A ranking may take almost all of a group: ``minimum``, or ``normalise="lamp"``, protects it.

    Args:
      groups: from `find_groups`.
      scores: score tree of the parameters; a group that no ranked leaf speaks of stays whole. Or `UnitScores`, such
        as those of `activation_scores`. Beside ``masks`` it says which units stay where rounding keeps more than the
        masks do.
      keep: fraction of the scored units to keep, before rounding.
      params: fraction of all parameters to keep, at most.
      macs: fraction of the multiply-accumulates on the example inputs to keep, at most.
      latency: fraction of the modelled time on the example inputs to keep, at most.
      masks: mask tree of the parameters, such as a ticket: a unit goes when some mask speaks of it and none keeps
        any of its entries.
      aggregate: how a unit's score entries become one number: ``"sum"``, ``"mean"``, ``"max"``, ``"norm"``,
        or ``"joint"``; see `unit_scores`.
      normalise: divide each group's numbers by their ``"mean"``, ``"max"`` or ``"norm"`` before ranking, or score
        them by ``"lamp"``; see `unit_scores`.
      scope: rank all units together, or each group by itself, which loses the same fraction (``keep`` only).
      minimum: units that every group keeps.
      round_to: a group keeps a multiple of this, or everything; ``"auto"`` for the width at or above the wanted one
        that takes the least time by the measured table, other widths being whole.
      exclude: rules for parameter paths; a group on one of them stays whole.
      residual: a residual stream keeps the ``"union"`` of what its producers keep, as every group does, or stays
        ``"whole"``: so does every group on which an addition joins what different layers make.
      alignment: the table for ``latency`` and ``round_to="auto"``; by default the present backend's.

    Returns:
      A `Plan`; nothing has changed yet.

    Raises:
      ValueError: not exactly one of keep, params, macs, latency and masks; a fraction outside (0, 1]; a budget that
        cannot be met with the minimum widths; no group to prune; no table for this backend.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from wormjax import scores
      >>> from wormjax.structure import find_groups, plan
      >>> params = {"a": jnp.array([[1.0, 3.0, 2.0]]), "b": jnp.ones((3, 1))}
      >>> groups = find_groups(lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], params, jnp.ones((4, 1)))
      >>> decided = plan(groups, scores.magnitude(params), params=0.7)
      >>> print(decided.kept, decided.parameters)
      {'a:1': array([False,  True,  True])} (6, 4)
    """
    budgets = {"keep": keep, "params": params, "macs": macs, "latency": latency, "masks": masks}
    [given, *more] = [name for name, value in budgets.items() if value is not None] or [""]
    if more or not given:
        raise ValueError("plan takes exactly one of keep=, params=, macs=, latency= and masks=.")
    _check(minimum, round_to, scope, residual, given)
    costs = Costs(groups, given, round_to, alignment)
    may_go = _may_go(groups, exclude, residual)
    units = _units(groups, may_go, scores, aggregate, normalise)

    if masks is not None:
        spoken = unit_masks(groups, masks, may_go)
        stairs = costs.stairs(spoken, minimum)
        widths = rounded(stairs, {name: int(kept.sum()) for name, kept in spoken.items()})
        return _planned(groups, _preferred(spoken, units), widths, masks)

    if scores is None:
        raise ValueError(f"plan({given}=...) ranks units and needs scores.")
    if not units:
        raise ValueError(
            "No group has a score: the ranked leaves lie on none of the groups that may be pruned."
        )
    ratio = as_fraction(given, budgets[given])
    if not 0 < ratio <= 1:
        raise ValueError(
            f"{given} must lie in (0, 1], got {budgets[given]}: it is the fraction to keep."
        )
    stairs, whole = costs.stairs(units, minimum), {name: len(u) for name, u in units.items()}
    narrow: Widths | None
    if scope == "group":
        narrow = rounded(stairs, {n: k - math.floor((1 - ratio) * k) for n, k in whole.items()})
    elif given == "latency":
        scored = [group for group in may_go if group.name in units]
        narrow = trade(costs.latency, scored, units, stairs, float(ratio) * costs(whole))
    else:
        order = Ranking(units, stairs, minimum)
        if given == "keep":
            gone = math.floor((1 - ratio) * costs(whole))
            narrow = order.widths(gone) if gone <= order.most else None
        else:
            narrow = order.within(lambda widths: costs(widths) <= ratio * costs(whole))
    if narrow is None:
        least = costs({name: int(stair[0]) for name, stair in stairs.items()}) / costs(whole)
        asked = budgets[given]
        shown = f"{float(asked):.3g}" if isinstance(asked, Fraction) else asked
        raise ValueError(
            f"{given}={shown} cannot be met: {least:.1%} remain where every scored group has its least width. "
            "Lower minimum or round_to, score more groups, or raise the budget."
        )
    return _planned(groups, units, narrow)


def _check(minimum: int, round_to: int | str, scope: str, residual: str, given: str) -> None:
    if minimum < 1:
        raise ValueError(f"minimum={minimum} must be at least 1: a group never goes as a whole.")
    if round_to != "auto" and (not isinstance(round_to, int) or round_to < 1):
        raise ValueError(f"round_to must be at least 1, or 'auto', got {round_to!r}.")
    if scope not in ("global", "group"):
        raise ValueError(f"scope must be 'global' or 'group', got {scope!r}.")
    if scope == "group" and given != "keep":
        raise ValueError(f"scope='group' goes with keep=, not with {given}=.")
    if residual not in ("union", "whole"):
        raise ValueError(f"residual must be 'union' or 'whole', got {residual!r}.")


def _may_go(groups: Groups, exclude: Rule | Sequence[Rule], residual: str) -> list[Group]:
    """The groups that no rule excludes."""
    allowed: list[Group] = list(groups)
    if isinstance(exclude, str) or callable(exclude) or list(exclude):
        ours = jax.tree.leaves(prunable(groups.shapes, exclude=exclude))
        everyone = jax.tree.leaves(prunable(groups.shapes))
        hit = [before and not now for before, now in zip(everyone, ours, strict=True)]
        allowed = [g for g in allowed if not any(hit[s.leaf] for s in g.slices)]
    if residual == "whole":
        joined = streams(groups.traced)
        allowed = [g for g in allowed if g.atom not in joined]
    if not allowed:
        raise ValueError(
            f"exclude={exclude!r} and residual={residual!r} leave no group that may be pruned."
        )
    return allowed


def _units(
    groups: Groups,
    may_go: Sequence[Group],
    scores: PyTree | None,
    aggregate: Aggregate,
    normalise: Normalise,
) -> dict[str, np.ndarray]:
    """The scores of the units that may go."""
    if scores is None:
        return {}
    found = unit_scores(groups, scores, aggregate, normalise)
    return {group.name: found[group.name] for group in may_go if group.name in found}


def _preferred(kept: Mapping[str, np.ndarray], scores: Units) -> dict[str, np.ndarray]:
    """Scores that put what masks keep above everything else, and the rest in order of its own scores."""
    return {
        name: np.where(mask, np.inf, scores.get(name, np.zeros(len(mask))))
        for name, mask in kept.items()
    }


def _planned(
    groups: Groups, units: Units, widths: Mapping[str, int], given: PyTree | None = None
) -> Plan:
    """Keep the best units of each group."""
    whole = {group.name: np.ones(group.size, bool) for group in groups}
    return Plan(groups, whole | {n: best(units[n], width) for n, width in widths.items()}, given)
