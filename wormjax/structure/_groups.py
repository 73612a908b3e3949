"""The channel groups of a function: which slices of which parameters live and die together."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, PyTree

from wormjax.structure._dims import Dim, Reason
from wormjax.structure._extend import extend_to_groups
from wormjax.structure._trace import Traced, trace
from wormjax.structure._unread import fix_unread
from wormjax.structure.rules import PROPAGATE


class Slice(NamedTuple):
    """An axis of a parameter on which a group lies.

    Attributes:
      leaf: index of the parameter in flatten order.
      path: its path.
      axis: the axis.
    """

    leaf: int
    path: str
    axis: int


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Units that can be removed one by one, each everywhere at once.

    Attributes:
      name: path and axis of the first parameter that it lies on.
      size: number of units.
      slices: the parameter axes that it lies on.
      atom: its dim in the trace.
    """

    name: str
    size: int
    slices: tuple[Slice, ...]
    atom: Dim


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """All groups of a traced function.

    Attributes:
      groups: those that can be pruned, in the order of the parameters.
      whole: parameter axes that must stay whole, with the reasons.
      traced: the trace.
      apply: the function.
      shapes: abstract parameters.
      state_shapes: abstract state, or None.
      inputs: abstract example inputs.
    """

    groups: tuple[Group, ...]
    whole: tuple[tuple[Slice, tuple[Reason, ...]], ...]
    traced: Traced
    apply: Callable[..., Any]
    shapes: PyTree
    state_shapes: PyTree | None
    inputs: tuple[Any, ...]

    def __repr__(self) -> str:
        units = sum(group.size for group in self.groups)
        return f"Groups({len(self.groups)} groups of {units:,} units; {len(self.whole)} axes stay whole)"

    def __iter__(self):
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, name: str) -> Group:
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(f"there is no group {name!r}; there are {[g.name for g in self.groups]}")

    def extend(self, masks: PyTree[Bool[Array, "..."]]) -> PyTree[Bool[Array, "..."]]:
        """Mask every parameter slice of the units that ``masks`` removes; see `extend_to_groups`."""
        return extend_to_groups(self, masks)

    def explain(self) -> str:
        """Say what is tied to what, and why some axes cannot go."""
        lines = []
        for group in self.groups:
            lines.append(f"group {group.name}   {group.size} units")
            lines += [f"    {self._written(s, group)}" for s in group.slices]
        if self.whole:
            lines.append("whole")
            for place, reasons in self.whole:
                size = jax.tree.leaves(self.shapes)[place.leaf].shape[place.axis]
                lines.append(f"    {place.path} axis {place.axis} ({size}): {reasons[0]}")
                lines += [f"        and {reason}" for reason in reasons[1:3]]
        return "\n".join(lines)

    def _written(self, place: Slice, group: Group) -> str:
        rank = len(self.traced.params[place.leaf])
        dim = self.traced.params[place.leaf][place.axis]
        letters = [":"] * rank
        letters[place.axis] = (
            "c" if self.traced.dims.find(dim) is group.atom else f"{_pattern(self, dim, group)}"
        )
        return f"{place.path}[{', '.join(letters)}]"


def find_groups(
    apply: Callable[..., Any], params: PyTree, *inputs: PyTree, state: PyTree | None = None
) -> Groups:
    """Find every set of parameter slices that must live and die together.

    The function is traced with abstract values: nothing is computed or compiled.

    Args:
      apply: ``apply(params, *inputs)``, or ``apply(params, state, *inputs) -> (output, new_state)`` where
        ``state`` is given. Any JAX function.
      params: pytree of arrays or `jax.ShapeDtypeStruct`.
      inputs: example inputs, arrays or `jax.ShapeDtypeStruct`. Their axes, and those of the output, stay whole.
      state: batch statistics, caches.

    Returns:
      `Groups`; print ``groups.explain()``.

    Raises:
      ValueError: no group at all; the message gives the reasons.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import wormjax as wj
      >>> params = {"up": jnp.ones((3, 8)), "bias": jnp.ones(8), "down": jnp.ones((8, 2))}
      >>> def apply(params, x):
      ...     return jax.nn.relu(x @ params["up"] + params["bias"]) @ params["down"]
      >>> print(wj.find_groups(apply, params, jnp.ones((4, 3))).explain())
      group bias:0   8 units
          bias[c]
          down[c, :]
          up[:, c]
      whole
          down axis 1 (2): it is an axis of the model's output
          up axis 0 (3): it is an axis of the model's input

    References:
      Fang et al., `DepGraph: Towards Any Structural Pruning <https://arxiv.org/abs/2301.12900>`_, 2023
    """
    shapes = jax.eval_shape(lambda *xs: xs, params, state, inputs)
    traced = trace(apply, shapes[0], shapes[2], shapes[1], PROPAGATE)
    fix_unread(traced)
    dims = traced.dims
    places: dict[Dim, list[Slice]] = {}
    for leaf, (name, axes) in enumerate(zip(traced.names, traced.params, strict=True)):
        for axis, dim in enumerate(axes):
            for atom in dict.fromkeys(dims.atoms(dim)):
                places.setdefault(atom, []).append(Slice(leaf, name, axis))
    groups = [
        Group(f"{where[0].path}:{where[0].axis}", atom.size, tuple(where), atom)
        for atom, where in places.items()
        if not dims.reasons(atom)
    ]
    whole = [
        (where[0], tuple(dims.reasons(atom)))
        for atom, where in places.items()
        if dims.reasons(atom)
    ]
    if not groups:
        told = (
            "; ".join(f"{s.path} axis {s.axis}: {r[0]}" for s, r in whole[:5])
            or "it has no parameters"
        )
        raise ValueError(f"No axis of any parameter can be pruned in this function. {told}.")
    return Groups(
        tuple(_unique_names(groups)), tuple(whole), traced, apply, shapes[0], shapes[1], shapes[2]
    )


def _unique_names(groups: list[Group]) -> list[Group]:
    """Number the groups that begin on the same axis (pieces of a split, factors of a merge)."""
    seen: dict[str, int] = {}
    for group in groups:
        seen[group.name] = seen.get(group.name, 0) + 1
    count: dict[str, int] = {}
    named = []
    for group in groups:
        if seen[group.name] > 1:
            count[group.name] = count.get(group.name, 0) + 1
            group = dataclasses.replace(group, name=f"{group.name}.{count[group.name]}")
        named.append(group)
    return named


def _has_list(groups: Groups, dim: Dim) -> bool:
    """Whether a list of positions says where units lie on an axis."""
    root = groups.traced.dims.find(dim)
    return root.kind == "indexed" or any(_has_list(groups, part) for part in root.parts)


def _pattern(groups: Groups, dim: Dim, group: Group) -> str:
    """How unit c lies on a merged or joined axis, read off its first unit."""
    mask = np.ones(group.size, bool)
    mask[0] = False
    where = np.flatnonzero(~groups.traced.dims.kept(dim, {group.atom: mask}))
    if _has_list(groups, dim):
        return "at[c]" if len(where) == 1 else f"at[c, i], i < {len(where)}"
    first = f"{where[0]} + " if where[0] else ""
    if len(where) == 1:
        return f"{first}c"
    step = int(where[1] - where[0])
    if step == 1:
        return f"{first}{len(where)}*c + i, i < {len(where)}"
    return f"{first}c + {step}*i, i < {len(where)}"
