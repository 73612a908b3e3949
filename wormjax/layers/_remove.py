"""Rebuilding a network without some of its blocks."""

from collections.abc import Iterable
from typing import Any

import jax
from jaxtyping import PyTree

from wormjax.layers._candidates import Candidates
from wormjax.structure._cannot_cut import CannotCutError
from wormjax.structure._captured import hold
from wormjax.structure._opt_state_slicing import Optimizer
from wormjax.structure._program import program_of
from wormjax.structure._residual import find_residual
from wormjax.structure._shrink import composed, manifest_of, small_opt_state
from wormjax.structure._slicing import cut_tree
from wormjax.structure._small_apply import Indices, SmallApply, masks_of_atoms
from wormjax.structure._ticket import Ticket
from wormjax.structure._trace import trace
from wormjax.structure._without import Removed, Without, removal_of
from wormjax.structure.rules import PROPAGATE


def remove(
    found: Candidates,
    names: Iterable[str],
    params: PyTree,
    state: PyTree | None = None,
    opt_state: PyTree | None = None,
    tx: Optimizer | None = None,
    like_params: tuple[PyTree, ...] = (),
) -> Ticket:
    """Rebuild the network without some blocks: what is left keeps its weights, and nothing of the rest is run.

    The small network computes what the whole one computes with these branches multiplied by zero. Every tree keeps
    its structure: of a parameter that only removed blocks read, an array with a first axis of 0 entries is left; of
    layers that are stacked for a scan, the other rows. (A parameter of rank 0 has no axis to lose, and stays.)

    Args:
      found: from `candidates`.
      names: of the candidates to remove; none of them gives the network as it is.
      params: the parameters.
      state: the state, where the candidates were found with one.
      opt_state: the state of ``tx``, to go on training with; ``"reset"`` for a fresh one.
      tx: the optimizer, where ``opt_state`` is given.
      like_params: trees with the parameters' structure and shapes (averages of them), cut alike.

    Returns:
      A `wormjax.Ticket`, like that of `wormjax.shrink`: it can be saved, exported, searched for channel groups and for
      candidates again. ``ticket.apply.of(function)`` removes the same blocks from another function of the same
      trees, such as the one in training.

    Raises:
      ValueError: there is no such candidate; a tree does not fit; an optimizer state cannot be cut.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from wormjax import layers
      >>> params = [{"up": jnp.ones((1, 8)), "down": jnp.ones((8, 1))} for _ in range(3)]
      >>> def apply(params, x):
      ...     for p in params:
      ...         x = x + jax.nn.relu(x @ p["up"]) @ p["down"]
      ...     return x
      >>> found = layers.candidates(apply, params, jnp.ones((1, 1)))
      >>> ticket = layers.remove(found, ["0", "2"], params)
      >>> print(ticket.apply(ticket.params, jnp.ones((1, 1))), ticket.widths["0/up"], ticket.widths["1/up"])
      [[9.]] (0, 8) (1, 8)

    References:
      Jordao et al., `When Layers Play the Lottery, all Tickets Win at Initialization
      <https://arxiv.org/abs/2301.10835>`_, 2023
    """
    names = list(names)
    if len(set(names)) < len(names):
        raise ValueError(f"remove got a candidate twice in {names}. Name each once.")
    for name in names:
        if name not in found.names:
            raise ValueError(f"There is no candidate {name!r}; there are {found.names}.")
    if (state is None) != (found.state_shapes is None):
        raise ValueError(
            "The candidates were found "
            + ("without a state; pass none." if state is not None else "with a state; pass it.")
        )
    branches = [b for name in names for b in found[name].branches]
    # channels that are cut already are cut of what is left: removing comes first in what a ticket records
    inner, shapes, state_shapes, indices = _channels_apart(found)
    abstract = found.inputs
    program = program_of(inner, shapes, abstract, state_shapes)
    residual = find_residual(program)
    told = {b.name: [program.names[p] for p in b.owned] for b in residual.branches}
    for b in branches:
        if told.get(b) != [found.program.names[p] for p in found.branches[b].owned]:
            raise ValueError(
                f"The branch {b!r} reads other parameters where channels are cut than in the whole network. Remove "
                "blocks first, and then channels."
            )
    removed = Removed.of(program, removal_of(program, residual, branches), branches)
    without = Without(inner, shapes, state_shapes, removed)
    left, state_left = removed.shapes(shapes, state_shapes)
    indices = _of_the_rest(indices, removed)
    # the trees that the caller has lack those channels
    cuts, state_cuts = removed.cuts(found.shapes, found.state_shapes)
    small = cut_tree(params, cuts, "params")
    traced = trace(without, left, abstract, state_left, PROPAGATE)
    apply = SmallApply(
        without,
        left,
        state_left,
        indices,
        inputs=abstract,
        captured=hold(traced, masks_of_atoms(traced, indices), abstract),
    )
    return Ticket(
        params=small,
        state=None if state is None else cut_tree(state, state_cuts, "state"),
        opt_state=small_opt_state(opt_state, tx, small, cuts, _no_groups),
        like_params=tuple(cut_tree(tree, cuts, "like_params") for tree in like_params),
        apply=apply,
        manifest=manifest_of(apply),
    )


def _channels_apart(found: Candidates) -> tuple[Any, PyTree, PyTree | None, Indices]:
    """The function below all cutting of channels, its shapes, and what is kept of its channels."""
    apply = found.apply
    if not isinstance(apply, SmallApply):
        return apply, found.shapes, found.state_shapes, {}
    if apply.first.restored is not None and apply.first.captured.found:
        raise ValueError(
            "The candidates are of a loaded ticket whose function closes over arrays. Pass such arrays as state= to "
            "the function before the ticket is made, or remove the blocks before it is saved."
        )
    indices, original = apply.indices, apply.original
    while isinstance(original, SmallApply):
        indices, original = composed(original.indices, indices), original.original
    shapes = _with_dtypes(apply.first.shapes, found.shapes)
    return original, shapes, apply.first.state_shapes, indices


def _with_dtypes(shapes: PyTree, like: PyTree) -> PyTree:
    return jax.tree.map(lambda s, x: jax.ShapeDtypeStruct(s.shape, x.dtype), shapes, like)


def _of_the_rest(indices: Indices, removed: Removed) -> Indices:
    """What is kept of the channels of parameters that are left."""
    return {
        name: by_axis for name, by_axis in indices.items() if removed.params.get(name, (0,)) != ()
    }


def _no_groups(groups: Any) -> Any:
    raise CannotCutError(
        "it holds channel groups of the whole network",
        "Pass opt_state='reset' with a tx that is built with the groups of the ticket.",
    )
