"""The function of a network that has lost whole branches."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from wormjax._paths import leaf_names
from wormjax.evaluation._inlined import Value
from wormjax.structure._program import Program, program_of
from wormjax.structure._residual import Branch, Residual, Scanned, find_residual, scan_of
from wormjax.structure._rewritten import Rewritten
from wormjax.structure._slicing import Cut

NOTHING = np.zeros(0, np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class Removal:
    """What goes with some branches.

    Attributes:
      stays: for a sum that loses a summand, which operand it hands on.
      steps: for a scan that loses steps, the steps that it keeps.
      live: positions of the operations that are left.
      params: for each parameter that loses something, the kept indices of its first axis.
      state: the same of the state.
    """

    stays: dict[int, int]
    steps: dict[int, np.ndarray]
    live: set[int]
    params: dict[int, np.ndarray]
    state: dict[int, np.ndarray]


def removal_of(program: Program, residual: Residual, names: Sequence[str]) -> Removal:
    """Work out what goes with the branches of these names.

    Raises:
      ValueError: there is no such branch.
    """
    known = {b.name: b for b in residual.branches}
    for name in names:
        if name not in known:
            raise ValueError(
                f"There is no residual branch {name!r} in this function; there are {list(known) or 'none'}."
            )
    gone = [known[name] for name in names]
    stays = program.zeros({b.value for b in gone if b.value is not None})
    steps, params, state = {}, {}, {}
    for told in _scans(program, gone):
        lost = [b.step for b in gone if b.sum == told.position and b.step is not None]
        steps[told.position] = np.setdiff1d(np.arange(told.length), lost)
        params.update(dict.fromkeys(told.params, steps[told.position]))
        state.update(dict.fromkeys(told.state, steps[told.position]))
    _, read_before = program.needed(program.outputs, {})
    _, read_after = program.needed(program.outputs, stays)
    for k, value in enumerate(program.params):
        if value in read_before and value not in read_after and value.shape:
            params[k] = NOTHING
    unread = read_before - read_after
    gone_params = {program.params[k] for k, kept in params.items() if not len(kept)}
    stay = list(program.outputs)
    for k, (value, new) in enumerate(zip(program.state, program.new_state, strict=True)):
        # statistics of what is gone: in evaluation only it reads them, in training its values set them
        if value not in unread and not gone_params & program.needed([new], stays)[1]:
            stay.append(new)
        elif value.shape:
            state[k] = NOTHING
    live, _ = program.needed(stay, stays)
    return Removal(stays, steps, live, params, state)


def _scans(program: Program, gone: Sequence[Branch]) -> list[Scanned]:
    told = [scan_of(program, k) for k in dict.fromkeys(b.sum for b in gone if b.step is not None)]
    return [t for t in told if isinstance(t, Scanned)]


@dataclasses.dataclass(frozen=True)
class Removed:
    """Branches that were removed at once, in words that a file can hold.

    Attributes:
      names: of the branches.
      params: for each parameter that loses something, by path, the kept indices of its first axis.
      state: the same of the state.
    """

    names: tuple[str, ...]
    params: Mapping[str, tuple[int, ...]]
    state: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, program: Program, removal: Removal, names: Sequence[str]) -> "Removed":
        """Describe a removal."""

        def by_path(
            kept: dict[int, np.ndarray], paths: Sequence[str]
        ) -> dict[str, tuple[int, ...]]:
            return {paths[k]: tuple(map(int, indices)) for k, indices in sorted(kept.items())}

        return cls(
            tuple(names),
            by_path(removal.params, program.names),
            by_path(removal.state, program.state_names),
        )

    @classmethod
    def from_record(cls, row: Any) -> "Removed":
        """Read what `dataclasses.asdict` made of one."""
        params, state = (
            {str(name): tuple(map(int, kept)) for name, kept in row[part].items()}
            for part in ("params", "state")
        )
        return cls(tuple(map(str, row["names"])), params, state)

    def cuts(self, params: PyTree, state: PyTree | None) -> tuple[PyTree[Cut], PyTree | None]:
        """Say how every leaf of the parameters and of the state is cut."""
        of_params = _cuts(params, self.params)
        return of_params, None if state is None else _cuts(state, self.state)

    def shapes(self, params: PyTree, state: PyTree | None) -> tuple[PyTree, PyTree | None]:
        """Return the abstract trees that are left of abstract trees."""
        of_params, of_state = self.cuts(params, state)
        return _small(params, of_params), None if state is None else _small(state, of_state)


def _cuts(full: PyTree, kept: Mapping[str, tuple[int, ...]]) -> PyTree[Cut]:
    cuts = [
        Cut(
            name,
            tuple(like.shape),
            {0: np.asarray(kept[name], np.int64)} if name in kept else {},
        )
        for name, like in zip(leaf_names(full), jax.tree.leaves(full), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(full), cuts)


def _small(full: PyTree, cuts: PyTree[Cut]) -> PyTree:
    return jax.tree.map(lambda how, x: jax.ShapeDtypeStruct(how.small, x.dtype), cuts, full)


@dataclasses.dataclass(frozen=True, eq=False)
class Without:
    """Call it like the original function, with what is left of the parameters and the state.

    A parameter that only removed branches read has a first axis of 0 entries, so that the tree keeps its structure.

    Attributes:
      original: the function of the whole network.
      shapes: its abstract parameters.
      state_shapes: its abstract state, or None.
      removed: the branches that are gone.
    """

    original: Callable[..., Any]
    shapes: PyTree
    state_shapes: PyTree | None
    removed: Removed

    def of(self, function: Callable[..., Any]) -> "Without":
        """Return another function of the same trees without the same branches."""
        inner = self.original.of(function) if isinstance(self.original, Without) else function
        return dataclasses.replace(self, original=inner)

    def __call__(self, params: PyTree, *rest: PyTree) -> Any:
        state, inputs = (rest[0], rest[1:]) if self.state_shapes is not None else (None, rest)
        abstract = jax.eval_shape(lambda *xs: xs, *inputs)
        like = _like(self.shapes, params)
        state_like = None if state is None else _like(self.state_shapes, state)
        program = program_of(self.original, like, abstract, state_like)
        removal = removal_of(program, find_residual(program), self.removed.names)
        leaves = [jax.tree.leaves(tree) for tree in (params, () if state is None else state)]
        _check(leaves[0], removal.params, program.params, program.names)
        _check(leaves[1], removal.state, program.state, program.state_names)
        run = Rewritten(program, removal.live, removal.stays, removal.steps)
        results = run([*leaves[0], *leaves[1], *jax.tree.leaves(inputs)])
        n = len(program.outputs)
        # the state of what is gone comes out as it went in
        new = [leaves[1][k] if x is None else x for k, x in enumerate(results[n:])]
        return jax.tree.unflatten(program.out_tree, [*results[:n], *new])


def _like(full: PyTree, tree: PyTree) -> PyTree:
    structure: Any = jax.tree.structure(full)
    if jax.tree.structure(tree) != structure:
        raise ValueError(
            "The parameters or the state have another structure than those of the network whose branches were "
            "removed. Pass the ticket's."
        )
    return jax.tree.map(lambda like, x: jax.ShapeDtypeStruct(like.shape, x.dtype), full, tree)


def _check(
    leaves: Sequence[Any],
    kept: dict[int, np.ndarray],
    full: Sequence[Value],
    names: Sequence[str],
) -> None:
    for k, (name, leaf, value) in enumerate(zip(names, leaves, full, strict=True)):
        wanted = (len(kept[k]), *value.shape[1:]) if k in kept else value.shape
        if tuple(leaf.shape) != wanted:
            raise ValueError(
                f"{name!r} has shape {tuple(leaf.shape)}, and {wanted} without the removed branches. Pass the "
                "ticket's small parameters and state."
            )
