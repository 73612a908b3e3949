"""The function of a shrunk network: the original one, replayed on small arrays."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from wormjax._paths import leaf_names
from wormjax.structure._captured import NOTHING, Holding
from wormjax.structure._dims import Dim
from wormjax.structure._replay import Replay, Value, zeros_removed
from wormjax.structure._restored import Restored
from wormjax.structure._trace import Axes, Traced, trace
from wormjax.structure._without import Without
from wormjax.structure.rules import EVALUATE, PROPAGATE

Indices = Mapping[str, Mapping[int, np.ndarray]]  # parameter path -> axis -> kept indices


@dataclasses.dataclass(frozen=True, eq=False)
class SmallApply:
    """Call it like the original function, with the small parameters and the small state.

    For each call the original is traced at its full size with abstract parameters, of the dtypes that are given, and
    what it does is done at the kept sizes. Inside ``jit`` that happens once for each shape of the inputs and costs
    nothing at run time.

    Attributes:
      original: the function of the full network.
      shapes: its abstract parameters.
      state_shapes: its abstract state, or None.
      indices: for each pruned parameter the indices that are kept along each pruned axis.
      inputs: abstract example inputs, where they are known.
      captured: what the original closed over when its groups were found.
      restored: what stands for it where the original was brought along to a saved ticket, and may capture others.
    """

    original: Callable[..., Any]
    shapes: PyTree
    state_shapes: PyTree | None
    indices: Indices
    inputs: tuple[Any, ...] | None = None
    captured: Holding = NOTHING
    restored: Restored | None = None

    @property
    def first(self) -> "SmallApply":
        """The first shrinking, of the function that the user wrote."""
        return self.original.first if isinstance(self.original, SmallApply) else self

    def of(self, function: Callable[..., Any]) -> "SmallApply":
        """Return the same cut of another function of the same trees, such as the one in training.

        Args:
          function: of the full network, called as the one that the groups were found on.

        Returns:
          What to call with the small trees. Where that function ties other channels together than the kept ones,
          the call is an error.

        Example:
          >>> import jax, jax.numpy as jnp
          >>> from wormjax import scores
          >>> from wormjax.structure import find_groups, plan, shrink
          >>> params = {"a": jnp.array([[1.0, 3.0, 2.0]]), "b": jnp.ones((3, 1))}
          >>> groups = find_groups(lambda p, x: x @ p["a"] @ p["b"], params, jnp.ones((4, 1)))
          >>> ticket = shrink(plan(groups, scores.magnitude(params), keep=0.5), params)
          >>> print(ticket.apply.of(lambda p, x: x @ p["a"] @ p["b"] / 2)(ticket.params, jnp.ones((1, 1))))
          [[2.5]]
        """
        inner: Callable[..., Any] = function
        if isinstance(self.original, SmallApply | Without):
            inner = self.original.of(function)
        return dataclasses.replace(self, original=inner)

    @property
    def removals(self) -> list[Without]:
        """The removals of whole branches from the function that the user wrote, the first one first."""
        found, original = list[Without](), self.first.original
        while isinstance(original, Without):
            found.insert(0, original)
            original = original.original
        return found

    @property
    def full_state_shapes(self) -> PyTree | None:
        """The abstract state of the function that the user wrote, or None."""
        return next(iter(self.removals), self.first).state_shapes

    def __call__(self, params: PyTree, *rest: PyTree) -> Any:
        if isinstance(self.original, Without) and not self.indices and self.restored is None:
            return self.original(params, *rest)  # no channel is cut: there is nothing to replay
        state, inputs = (rest[0], rest[1:]) if self.state_shapes is not None else (None, rest)
        abstract = jax.eval_shape(lambda *xs: xs, *inputs)
        shapes = at_full_size(params, self.shapes, "params")
        state_shapes = None if state is None else at_full_size(state, self.state_shapes, "state")
        traced = trace(self.original, shapes, abstract, state_shapes, PROPAGATE)
        masks = masks_of_atoms(traced, self.indices)
        constant = self.restored.at(abstract, traced.closed) if self.restored else None
        run = Replay(traced.dims, masks, EVALUATE, traced.scope, constant=constant)
        operands = [
            zeros_removed(x)
            for x in self._leaves(run, params, self.shapes, traced.params, "params")
        ]
        if state is not None:
            operands += map(
                Value, self._leaves(run, state, self.state_shapes, traced.state, "state")
            )
        operands += map(Value, jax.tree.leaves(inputs))
        results = run.closed(traced.closed, operands)
        return jax.tree.unflatten(traced.out_tree, [r.array for r in results])

    def _leaves(
        self, run: Replay, tree: PyTree, full: PyTree, axes: list[Axes], what: str
    ) -> list[Any]:
        """The leaves of a small tree, checked against the shapes that it must have."""
        leaves = jax.tree.leaves(tree)
        for name, leaf, dims in zip(leaf_names(full), leaves, axes, strict=True):
            if tuple(leaf.shape) != run.shape(dims):
                raise ValueError(
                    f"{what} {name!r} has shape {tuple(leaf.shape)}, and the ticket's has {run.shape(dims)}. "
                    f"Pass the ticket's small {what}."
                )
        return leaves


def at_full_size(tree: PyTree, full: PyTree, what: str) -> PyTree:
    """Full shapes with the dtypes that are given: the original may be called in another precision, too."""
    structure: Any = jax.tree.structure(full)
    if jax.tree.structure(tree) != structure:
        raise ValueError(
            f"The {what} have another structure than those of the network that was shrunk. Pass the ticket's."
        )
    return jax.tree.map(lambda like, x: jax.ShapeDtypeStruct(like.shape, x.dtype), full, tree)


def masks_of_atoms(traced: Traced, indices: Indices) -> dict[Dim, np.ndarray]:
    """Return the mask of every atom of a trace from what is kept of the parameters.

    Raises:
      ValueError: the indices do not fit this function, or break what it ties together.
    """
    masks: dict[Dim, np.ndarray] = {}
    dims = traced.dims
    known = dict(zip(traced.names, traced.params, strict=True))
    if unknown := sorted(set(indices) - set(known)):
        raise ValueError(
            f"The ticket prunes {unknown[0]!r}, which this function's parameters do not have."
        )
    for name, by_axis in indices.items():
        for axis, kept in by_axis.items():
            dim = known[name][axis]
            mask = np.zeros(dim.size, bool)
            mask[kept] = True
            for atom in dict.fromkeys(dims.atoms(dim)):
                masks.setdefault(atom, np.any(dims.project(dim, atom, mask), axis=1))
    masks = {atom: mask for atom, mask in masks.items() if not mask.all()}
    for name, axes in known.items():
        for axis, dim in enumerate(axes):
            expected = np.flatnonzero(dims.kept(dim, masks))
            told = indices.get(name, {}).get(axis, np.arange(dim.size))
            if not np.array_equal(expected, told):
                raise ValueError(
                    f"The ticket keeps {len(told)} of {dim.size} entries on axis {axis} of {name!r}, but this function "
                    "ties them to other parameters that keep others: it is not the function that was pruned."
                )
    for atom in masks:
        if reasons := dims.reasons(atom):
            raise ValueError(
                f"On these inputs an axis that was pruned must stay whole: {reasons[0]}."
            )
    return masks
