"""Cutting a network to its plan: parameters, state, copies, and a function for what is left."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from wormjax.structure._cannot_cut import CannotCutError
from wormjax.structure._captured import NOTHING, hold
from wormjax.structure._folding import fold
from wormjax.structure._groups import Groups, find_groups
from wormjax.structure._manifest import Manifest
from wormjax.structure._opt_state_rules import Regroup
from wormjax.structure._opt_state_slicing import Optimizer, cut_opt_state
from wormjax.structure._planned import Plan
from wormjax.structure._shared_widths import padded
from wormjax.structure._slicing import Cut, cut_tree, cuts_of
from wormjax.structure._small_apply import Indices, SmallApply
from wormjax.structure._ticket import Ticket
from wormjax.structure._verify import verify_ticket


def shrink(
    plan: Plan,
    params: PyTree,
    state: PyTree | None = None,
    opt_state: PyTree | None = None,
    tx: Optimizer | None = None,
    like_params: tuple[PyTree, ...] = (),
    verify: bool = False,
    pad_to: Mapping[str, int] | None = None,
) -> Ticket:
    """Remove the planned slices from the arrays.

    Args:
      plan: from `plan`.
      params: the parameters. What goes need not be masked before; what stays is as it is here, so mask the entries
        that a ticket masks and no unit takes along (``plan.explain()`` counts them). Where the plan was made from
        masks that leave a constant behind (a scale masked, its shift not), it is carried into the biases and running
        means behind, as ``plan.explain()`` says.
      state: the state, where the groups were found with one.
      opt_state: the state of ``tx``, to go on training with; ``"reset"`` for a fresh one.
      tx: the optimizer, where ``opt_state`` is given. A `wormjax.worm` in it with ``scope="group"`` goes on with the
        small network's groups, which the new state refers to; its ``init`` goes on taking the full network only.
        A `wormjax.sparse_training` in it goes on with its masks, counts and averages cut.
      like_params: trees with the parameters' structure and shapes (averages of them), cut alike.
      verify: compare with the masked network on fixed inputs of the example's shapes, and, where nothing is
        lost, with the network that the plan's masks gave.
      pad_to: for a group by name, how many units its arrays shall have: as many as the plan keeps, or more. The
        others are units that the plan removes, the first in order, whose slices of the parameters, of the
        optimizer's moments and of ``like_params`` are zero, so that the ticket computes what it computes without
        them. Tickets of several seeds get shapes in common by ``pad_to=shared_widths(plans)``, and
        `stack_tickets` makes one program of them.

    Returns:
      A `Ticket`.

    Raises:
      ValueError: a tree does not fit the groups; an optimizer state cannot be cut (the message names it and
        the leaf); ``pad_to`` does not fit the plan; with ``verify``, the outputs differ.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> from wormjax import scores
      >>> from wormjax.structure import find_groups, plan, shrink
      >>> params = {"a": jnp.array([[1.0, 3.0, 2.0]]), "b": jnp.ones((3, 1))}
      >>> def apply(params, x):
      ...     return jnp.tanh(x @ params["a"]) @ params["b"]
      >>> tx = optax.adam(0.1)
      >>> groups = find_groups(apply, params, jnp.ones((4, 1)))
      >>> keep_two = plan(groups, scores.magnitude(params), keep="0.66")
      >>> ticket = shrink(keep_two, params, opt_state=tx.init(params), tx=tx)
      >>> print(ticket.params["a"], ticket.opt_state[0].mu["a"].shape)
      [[3. 2.]] (1, 2)

    Note:
      Where the removed entries were zero and had zero gradients, the next step on the small network is the
      masked network's, for every optimizer of optax but those that look at sizes: Adafactor clips and scales
      by means over all entries, Muon scales by a matrix's shape, noisy SGD draws by shape.

      Padding has zero gradients, unless a function that is not 0 at 0 follows it or a mean is taken across it
      (LayerNorm). There masks must hold it at zero: a tree of ones among ``like_params`` comes out as these masks.
    """
    groups, traced = plan.groups, plan.groups.traced
    if (state is None) != (groups.state_shapes is None):
        raise ValueError(
            "The groups were found "
            + (
                "without a state; pass none."
                if groups.state_shapes is None
                else "with a state; pass it to shrink."
            )
        )
    given = params, state
    params, state = _carried(plan, params, state)
    held = plan if pad_to is None else padded(plan, pad_to)
    cuts = cuts_of(groups.shapes, traced.params, traced, held.atoms, plan.atoms)
    small = cut_tree(params, cuts, "params")
    small_state = None
    if state is not None:
        of_state = cuts_of(groups.state_shapes, traced.state, traced, held.atoms)
        small_state = cut_tree(state, of_state, "state")
    apply = SmallApply(
        groups.apply,
        groups.shapes,
        groups.state_shapes,
        held.indices,
        inputs=groups.inputs,
        # what was captured is known where the user's own function was traced
        captured=NOTHING
        if isinstance(groups.apply, SmallApply)
        else hold(traced, held.atoms, groups.inputs),
    )

    def regroup(groups: Any) -> Groups:
        return _found_again(groups, plan.groups, apply, small, small_state)

    ticket = Ticket(
        params=small,
        state=small_state,
        opt_state=small_opt_state(opt_state, tx, small, cuts, regroup),
        like_params=tuple(cut_tree(tree, cuts, "like_params") for tree in like_params),
        apply=apply,
        manifest=manifest_of(apply),
    )
    if verify:
        verify_ticket(plan, *given, (params, state), ticket)
    return ticket


def _carried(plan: Plan, params: PyTree, state: PyTree | None) -> tuple[PyTree, PyTree | None]:
    """Carry the constants of removed units into what follows, where the plan says that this is exact."""
    if not any(verdict.kind == "folded" for verdict in plan.losses.values()):
        return params, state
    return fold(plan.groups, plan.atoms, plan.given_masks, params, state)


def small_opt_state(
    opt_state: PyTree | None,
    tx: Optimizer | None,
    small: PyTree,
    cuts: PyTree[Cut],
    regroup: Regroup,
) -> PyTree | None:
    """Cut an optimizer's state, or make a new one.

    Args:
      opt_state: of ``tx`` on the full parameters, ``"reset"``, or None.
      tx: the optimizer, or None.
      small: the small parameters.
      cuts: how each parameter is cut.
      regroup: finds groups again in the small network.

    Raises:
      ValueError: one of ``opt_state`` and ``tx`` alone, or a state that cannot be cut.
    """
    if opt_state is None and tx is None:
        return None
    if opt_state is None or tx is None:
        raise ValueError(
            "shrink takes opt_state= together with the tx= that made it; opt_state='reset' starts afresh."
        )
    if isinstance(opt_state, str):
        if opt_state != "reset":
            raise ValueError(f"opt_state is a state of tx or the word 'reset', got {opt_state!r}.")
        return tx.init(small)
    return cut_opt_state(opt_state, tx, small, cuts, regroup)


def _found_again(
    given: Any, planned: Groups, apply: SmallApply, small: PyTree, small_state: PyTree | None
) -> Groups:
    """Return what an optimizer has as groups of the full network, found in the small one.

    Raises:
      CannotCutError: they are of another network, or there are none left.
    """
    remedy = "Pass opt_state='reset' with a tx that is built with the groups of the ticket."

    def shapes(groups: Groups) -> Any:
        return jax.tree.map(lambda x: (x.shape, str(x.dtype)), (groups.shapes, groups.state_shapes))

    if not isinstance(given, Groups) or shapes(given) != shapes(planned):
        raise CannotCutError("its groups are not of the network that the plan is for", remedy)
    try:
        function = dataclasses.replace(apply, original=given.apply)
        return find_groups(function, small, *given.inputs, state=small_state)
    except ValueError as error:
        why = f"its groups cannot be found again in the small network ({error})"
        raise CannotCutError(why, remedy) from None


def manifest_of(apply: SmallApply) -> Manifest:
    """Describe a ticket in the coordinates of the network that was there before anything was removed."""
    indices, original = apply.indices, apply.original
    while isinstance(original, SmallApply):
        indices = composed(original.indices, indices)
        original = original.original
    removals, shapes = apply.removals, apply.first.shapes
    for removal in reversed(removals):
        kept = removal.removed.params.items()
        indices = composed({name: {0: np.asarray(k, np.int64)} for name, k in kept}, indices)
        shapes = removal.shapes
    captured = apply.first.captured.found
    return Manifest.of(shapes, indices, captured, tuple(r.removed for r in removals))


def composed(first: Indices, second: Indices) -> dict[str, dict[int, np.ndarray]]:
    """Indices kept by one shrinking and then by another, in the coordinates of the first."""
    out = {name: dict(by_axis) for name, by_axis in first.items()}
    for name, by_axis in second.items():
        for axis, kept in by_axis.items():
            before = out.setdefault(name, {})
            before[axis] = before[axis][kept] if axis in before else kept
    return out
