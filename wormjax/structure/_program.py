"""A traced network as a graph of values, and what of it still runs when some values count as zero.

Here nothing is known of axes: whole values go or stay. `_residual` finds which of them may go, `_without` runs what
is left.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr
from jaxtyping import PyTree

from wormjax._paths import leaf_names
from wormjax.evaluation._inlined import Graph, Op, Value, inlined

# calls that run their program once, as it stands; a function with its own derivative stays one operation
REMAT = frozenset({"checkpoint", "remat", "remat2"})
IN_LINE = frozenset({"jit", "pjit", "closed_call", "core_call", "call", "eval_jaxpr"}) | REMAT
SUMS = frozenset({"add", "add_any"})
# operations that hand on what they are given, in another dtype or another form
CASTS = frozenset({"convert_element_type", "copy", "copy_p", "name", "reduce_precision"})
CASTS |= {"optimization_barrier", "sharding_constraint"}
FORMS = CASTS | {"reshape", "squeeze", "expand_dims", "transpose"}


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A traced network.

    Attributes:
      closed: its jaxpr over the flat (params, state, inputs).
      graph: that jaxpr with its calls in line.
      out_tree: structure of what the function returns.
      names: path of each parameter.
      state_names: path of each leaf of the state.
      made_by: for each value that an operation makes, the operation's position.
      users: for each value, positions of the operations that read it.
    """

    closed: ClosedJaxpr
    graph: Graph
    out_tree: Any
    names: list[str]
    state_names: list[str]
    made_by: Mapping[Value, int]
    users: Mapping[Value, Sequence[int]]

    @property
    def params(self) -> tuple[Value, ...]:
        """The parameters, in flatten order."""
        return self.graph.arguments[: len(self.names)]

    @property
    def state(self) -> tuple[Value, ...]:
        """The leaves of the state that goes in."""
        return self.graph.arguments[len(self.names) :][: len(self.state_names)]

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The leaves of the inputs."""
        return self.graph.arguments[len(self.names) + len(self.state_names) :]

    @property
    def outputs(self) -> tuple[Value, ...]:
        """The leaves of the output, without the new state."""
        n = len(self.state_names)
        return self.graph.outputs[:-n] if n else self.graph.outputs

    @property
    def new_state(self) -> tuple[Value, ...]:
        """The leaves of the state that comes out."""
        return self.graph.outputs[len(self.outputs) :]

    def op(self, value: Value) -> Op | None:
        """Return what makes a value."""
        k = self.made_by.get(value)
        return None if k is None else self.graph.ops[k]

    def zeros(self, cut: Collection[Value]) -> dict[int, int]:
        """For each sum that loses a summand with the cut values, the position of the operand that stays."""
        zero = set(cut)
        stays = {}
        for k, op in enumerate(self.graph.ops):
            if op.name not in SUMS:
                continue
            first, second = (v in zero for v in op.inputs)
            if first and second:
                zero.add(op.outputs[0])
            elif first or second:
                stays[k] = int(first)
        return stays

    def needed(
        self, roots: Collection[Value], stays: Mapping[int, int], until: Collection[Value] = ()
    ) -> tuple[set[int], set[Value]]:
        """Return the operations on which some values depend, and all values that they read.

        Args:
          roots: the values.
          stays: see `zeros`.
          until: values at which to stop.
        """
        ops, seen, stack = set[int](), set[Value](), list(roots)
        while stack:
            value = stack.pop()
            if value in seen:
                continue
            seen.add(value)
            k = None if value in until else self.made_by.get(value)
            if k is None:
                continue
            ops.add(k)
            inputs = self.graph.ops[k].inputs
            stack.extend((inputs[stays[k]],) if k in stays else inputs)
        return ops, seen


def program_of(
    apply: Callable[..., Any], params: PyTree, inputs: Sequence[PyTree], state: PyTree | None
) -> Program:
    """Trace ``apply(params, *inputs)`` or ``apply(params, state, *inputs)`` into a graph.

    Raises:
      ValueError: with a state, no pair comes out, or a state of another structure than it went in.
    """
    arguments = (params, *inputs) if state is None else (params, state, *inputs)
    closed, shapes = jax.make_jaxpr(apply, return_shape=True)(*arguments)
    if state is not None:
        is_pair = isinstance(shapes, tuple | list) and len(shapes) == 2
        structure: Any = jax.tree.structure(state)
        if not is_pair or jax.tree.structure(shapes[1]) != structure:
            raise ValueError(
                "With state=, apply is called as apply(params, state, *inputs) and must return the pair (output, "
                "new_state), the new state with the old one's structure. Return the state beside the output, or "
                "leave state= out and close over it."
            )
    graph = inlined(closed, IN_LINE)
    users: dict[Value, list[int]] = {}
    for k, op in enumerate(graph.ops):
        for value in op.inputs:
            users.setdefault(value, []).append(k)
    made_by = {v: k for k, op in enumerate(graph.ops) for v in op.outputs}
    return Program(
        closed,
        graph,
        jax.tree.structure(shapes),
        leaf_names(params),
        [] if state is None else leaf_names(state),
        made_by,
        users,
    )
