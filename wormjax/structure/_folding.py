"""What is lost with the removed units, and carrying their constants into the consumers' biases.

Per group, relative to the network that the user masked: *exact*, nothing flows out of the removed units; *folded*, a
constant does, and a bias (or a running mean that is subtracted) behind every consumer takes it over; *approximate*,
live units go, or a constant meets a consumer that has nothing to take it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from wormjax._source import source_line
from wormjax.structure._dims import Dim
from wormjax.structure._fills import Fill, Fills, Leaf
from wormjax.structure._flat import Flat, Step, flatten
from wormjax.structure._groups import Groups

Kind = Literal["exact", "folded", "approximate"]
_SEVERITY: tuple[Kind, ...] = ("exact", "folded", "approximate")
# primitives that bring a pruned axis to an end: what its removed entries hold matters there
_REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"}
_LOOPS = {"scan", "while", "cond"}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What becomes of a group.

    Attributes:
      kind: ``"exact"``, ``"folded"`` or ``"approximate"``.
      why: for what is not exact, the first reason, with primitive and source line.
    """

    kind: Kind
    why: str = ""


class Carried(NamedTuple):
    """A constant that a bias takes over.

    Attributes:
      value: number of the bias's (or running mean's) value.
      amount: what is added to it, of its shape.
    """

    value: int
    amount: np.ndarray


class _Unfit(Exception):
    """A constant that nothing can take over; says why."""


class _Analysis:
    def __init__(self, groups: Groups, atoms: Mapping[Dim, np.ndarray], leaves: list[Leaf]):
        self.groups, self.atoms = groups, atoms
        self.dims = groups.traced.dims
        self.flat: Flat = flatten(groups.traced)
        numbered = dict(zip(self.flat.params, leaves, strict=True))
        self.fills = Fills(self.flat, self.dims, atoms, numbered)
        self.leaves = numbered
        self.verdicts: dict[Dim, Verdict] = dict.fromkeys(atoms, Verdict("exact"))
        self.carried: list[Carried] = []

    def run(self) -> None:
        for step in self.flat.steps:
            for operand, axis in self.ends(step):
                self.judge(step, operand, axis)

    def ends(self, step: Step) -> list[tuple[int, int]]:
        """Operand positions and pruned axes of them that a step brings to an end."""
        name, params = step.eqn.primitive.name, step.eqn.params
        if name == "dot_general":
            (left, _), _ = params["dimension_numbers"]
            return [(0, a) for a in left if a in self.fills.pruned(step.inputs[0])]
        if name == "conv_general_dilated":
            channels = params["dimension_numbers"].lhs_spec[1]
            depthwise = params["feature_group_count"] == self.fills.shape(step.inputs[0])[channels]
            found = channels in self.fills.pruned(step.inputs[0]) and not depthwise
            return [(0, channels)] if found else []
        if name in _REDUCTIONS:
            # flax reduces over axes that NumPy counted
            return [(0, int(a)) for a in params["axes"] if a in self.fills.pruned(step.inputs[0])]
        if name in _LOOPS:
            return [(k, a) for k, v in enumerate(step.inputs) for a in self.fills.pruned(v)]
        return []

    def judge(self, step: Step, operand: int, axis: int) -> None:
        fill = self.fills.of(step.inputs[operand], axis)
        silent = fill.zero
        name = step.eqn.primitive.name
        if name == "dot_general":
            (left, right), _ = step.eqn.params["dimension_numbers"]
            silent = silent | self.fills.of(step.inputs[1], right[left.index(axis)]).zero
        elif name == "conv_general_dilated" and step.eqn.params["feature_group_count"] == 1:
            kernel_axis = step.eqn.params["dimension_numbers"].rhs_spec[1]
            silent = silent | self.fills.of(step.inputs[1], kernel_axis).zero
        if silent.all():
            return
        verdict = self.verdict(step, operand, axis, fill, silent)
        worst = np.where(silent, 0, _SEVERITY.index(verdict.kind))
        full = np.zeros(self.fills.shape(step.inputs[operand])[axis], int)
        full[self.fills.gone(step.inputs[operand], axis)] = worst
        dim = self.flat.axes[step.inputs[operand]][axis]
        for atom in dict.fromkeys(self.dims.atoms(dim)):
            if atom in self.verdicts:
                found = self.dims.project(dim, atom, full)[~self.atoms[atom]]
                kind = _SEVERITY[int(found.max(initial=0))]
                if _SEVERITY.index(kind) > _SEVERITY.index(self.verdicts[atom].kind):
                    self.verdicts[atom] = dataclasses.replace(verdict, kind=kind)

    def verdict(
        self, step: Step, operand: int, axis: int, fill: Fill, silent: np.ndarray
    ) -> Verdict:
        """Say what becomes of units that are not silent at this step, and carry their constants."""
        at = f"{step.eqn.primitive.name} {source_line(step.eqn)}".strip()
        if (fill.varies & ~silent).any():
            return Verdict("approximate", f"live units go into {at}")
        try:
            if step.eqn.primitive.name not in ("dot_general", "conv_general_dilated") or operand:
                raise _Unfit("it is not a contraction with a weight")
            place, sign = self.taker(step)
            amount = self.amount(step, axis, np.where(silent, 0.0, fill.numbers), place)
        except _Unfit as error:
            return Verdict("approximate", f"the constant that goes into {at} is lost: {error}")
        if amount is not None:
            self.carried.append(Carried(place, sign * amount))
        return Verdict("folded", f"its constant is carried over {at}")

    def taker(self, step: Step) -> tuple[int, int]:
        """Return the leaf behind a contraction that can take a constant, and the sign."""
        value = step.outputs[0]
        while True:
            users = self.flat.users(value)
            if len(users) != 1 or value in self.flat.outputs:
                raise _Unfit("no bias alone follows it")
            user = self.flat.steps[users[0]]
            if user.eqn.primitive.name != "convert_element_type":
                break
            value = user.outputs[0]
        name = user.eqn.primitive.name
        if name not in ("add", "sub", "add_any") or (name == "sub" and user.inputs[0] != value):
            raise _Unfit("no bias follows it")
        leaf = self.origin(next(v for v in user.inputs if v != value))
        free = self.flat.axes[step.outputs[0]]
        for dim in self.flat.axes[leaf]:
            if dim.size > 1 and not any(self.dims.same(dim, other) for other in free):
                raise _Unfit("what follows it is no bias")
        if leaf not in (*self.flat.params, *self.flat.state):
            raise _Unfit("what follows it is no parameter")
        return leaf, (-1 if name == "sub" else 1)

    def origin(self, value: int) -> int:
        """Follow a value back to the leaf that it is a plain view of."""
        views = {"broadcast_in_dim", "reshape", "convert_element_type", "squeeze", "copy"}
        while value in self.flat.makers:
            step = self.flat.steps[self.flat.makers[value]]
            if step.eqn.primitive.name not in views:
                raise _Unfit("no bias follows it")
            value = step.inputs[0]
        if len(self.flat.users(value)) > 1:
            raise _Unfit("its bias is used elsewhere too")
        return value

    def amount(self, step: Step, axis: int, numbers: np.ndarray, leaf: int) -> np.ndarray | None:
        """Return what the constants add to a contraction's result; None where numbers are not known."""
        kernel = self.kernel(step)
        vector = np.zeros(self.fills.shape(step.inputs[0])[axis])
        vector[self.fills.gone(step.inputs[0], axis)] = numbers
        params = step.eqn.params
        if step.eqn.primitive.name == "dot_general":
            (left, right), (batch, _) = params["dimension_numbers"]
            if batch or len([a for a in left if a in self.fills.pruned(step.inputs[0])]) > 1:
                raise _Unfit("it contracts several axes")
            if kernel is None:
                return None
            others = tuple(k for k in right if k != right[left.index(axis)])
            place = right[left.index(axis)]
            place -= sum(k < place for k in others)
            made = np.tensordot(
                kernel.sum(axis=others) if others else kernel, vector, ((place,), (0,))
            )
        else:
            numbers_ = params["dimension_numbers"]
            spatial = [self.fills.shape(step.inputs[1])[k] for k in numbers_.rhs_spec[2:]]
            if params["feature_group_count"] != 1 or params["batch_group_count"] != 1:
                raise _Unfit("it convolves in groups")
            if any(d != 1 for d in params["lhs_dilation"]):
                raise _Unfit("its input is dilated")
            padded = any(tuple(p) != (0, 0) for p in params["padding"])
            if padded and any(n > 1 for n in spatial):
                raise _Unfit("its padding is not the constant")
            if kernel is None:
                return None
            made = np.tensordot(
                np.transpose(kernel, numbers_.rhs_spec).sum(axis=tuple(range(2, kernel.ndim))),
                vector,
                ((1,), (0,)),
            )
        return made.reshape(self.fills.shape(leaf))

    def kernel(self, step: Step) -> np.ndarray | None:
        """Return a contraction's weight in float64, None where only its mask is known."""
        value = step.inputs[1]
        while value in self.flat.makers:
            made_by = self.flat.steps[self.flat.makers[value]]
            if made_by.eqn.primitive.name not in ("convert_element_type", "copy"):
                raise _Unfit("its weight is computed")
            value = made_by.inputs[0]
        if value in self.flat.known:
            return np.asarray(self.flat.known[value], np.float64)
        if value not in self.leaves:
            raise _Unfit("its weight is no parameter")
        leaf = self.leaves[value]
        if leaf.array is None:
            return None
        return np.where(leaf.mask, leaf.array, 0).astype(np.float64)


def verdicts(groups: Groups, atoms: Mapping[Dim, np.ndarray], masks: PyTree) -> dict[Dim, Verdict]:
    """Say for every atom that loses something what becomes of it, from the user's masks alone.

    Args:
      groups: the groups.
      atoms: the masks of the atoms.
      masks: the user's mask tree for the parameters; rank-0 leaves are unmasked.
    """
    leaves = [Leaf(np.asarray(m), None) for m in jax.tree.leaves(masks)]
    analysis = _Analysis(groups, atoms, leaves)
    analysis.run()
    return analysis.verdicts


def fold(
    groups: Groups,
    atoms: Mapping[Dim, np.ndarray],
    masks: PyTree,
    params: PyTree,
    state: PyTree | None,
) -> tuple[PyTree, PyTree | None]:
    """Carry the constants of removed units into biases and running means.

    Args:
      groups: the groups.
      atoms: the masks of the atoms.
      masks: the user's mask tree.
      params: the full parameters.
      state: the full state, or None.

    Returns:
      Full parameters and state, as they were but for the leaves that took a constant.
    """
    arrays: list[Any] = jax.tree.leaves(params)
    leaves = [
        Leaf(np.asarray(m), np.asarray(x))
        for m, x in zip(jax.tree.leaves(masks), arrays, strict=True)
    ]
    analysis = _Analysis(groups, atoms, leaves)
    analysis.run()
    states: list[Any] = jax.tree.leaves(state)
    where = {number: (arrays, k) for k, number in enumerate(analysis.flat.params)}
    where.update({number: (states, k) for k, number in enumerate(analysis.flat.state)})
    for value, amount in analysis.carried:
        trees, k = where[value]
        full = np.asarray(trees[k], np.float64) + amount
        trees[k] = jax.numpy.asarray(full.astype(np.asarray(trees[k]).dtype))
    return (
        jax.tree.unflatten(jax.tree.structure(params), arrays),
        jax.tree.unflatten(jax.tree.structure(state), states),
    )
