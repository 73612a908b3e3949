"""A traced program as one list of steps: calls inlined, loops and branches left as they are."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from wormjax.structure._trace import Axes, Scope, Traced

# the parameter that holds the program of a call which runs it once, as it stands
_CALLED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One equation.

    Attributes:
      eqn: its primitive and parameters; its own variables are replaced by numbers:
      inputs: numbers of the values that it reads.
      outputs: numbers of the values that it makes.
      positions: of one that reads an axis at a list of positions, the list.
      place: the jaxpr that it stands in, where that is called, and its position there.
    """

    eqn: JaxprEqn
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    positions: np.ndarray | None = None
    place: tuple[Scope, int] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Flat:
    """The program.

    Attributes:
      steps: in order of execution.
      axes: dims of every value, by number.
      known: values that stand in the program's text (literals and captured arrays), by number.
      params: numbers of the parameters' leaves.
      state: numbers of the state's leaves.
      outputs: numbers of the results, the state's among them.
      makers: for each value that a step makes, the step's position.
    """

    steps: list[Step]
    axes: list[Axes]
    known: dict[int, Any]
    params: list[int]
    state: list[int]
    outputs: list[int]
    makers: dict[int, int]

    def users(self, value: int) -> list[int]:
        """Positions of the steps that read a value."""
        return [k for k, step in enumerate(self.steps) if value in step.inputs]


class _Flattening:
    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.axes: list[Axes] = []
        self.known: dict[int, Any] = {}

    def value(self, axes: Axes) -> int:
        self.axes.append(axes)
        return len(self.axes) - 1

    def constant(self, array: Any, axes: Axes) -> int:
        number = self.value(axes)
        self.known[number] = array
        return number

    def run(
        self, jaxpr: Jaxpr, scope: Scope, consts: Sequence[int], operands: Sequence[int]
    ) -> list[int]:
        numbers: dict[Var, int] = dict(
            zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *operands), strict=True)
        )

        def read(atom: Var | Literal) -> int:
            if isinstance(atom, Literal):
                return self.constant(np.asarray(atom.val), ())
            return numbers[atom]

        for index, eqn in enumerate(jaxpr.eqns):
            inputs = tuple(map(read, eqn.invars))
            inner = _CALLED.get(eqn.primitive.name)
            if inner is not None and index in scope.inner:
                outputs = self.call(eqn.params[inner], scope.inner[index][0], inputs)
            else:
                outputs = [self.value(scope.of(v)) for v in eqn.outvars]
                self.steps.append(
                    Step(eqn, inputs, tuple(outputs), scope.lists.get(index), (scope, index))
                )
            numbers.update(zip(eqn.outvars, outputs, strict=True))
        return list(map(read, jaxpr.outvars))

    def call(self, called: Jaxpr | ClosedJaxpr, scope: Scope, operands: Sequence[int]) -> list[int]:
        if not isinstance(called, ClosedJaxpr):
            return self.run(called, scope, (), operands)
        inner = called.jaxpr
        consts = [
            self.constant(c, scope.axes[v])
            for c, v in zip(called.consts, inner.constvars, strict=True)
        ]
        return self.run(inner, scope, consts, operands)


def flatten(traced: Traced) -> Flat:
    """Return a traced program as a list of steps."""
    made = _Flattening()
    jaxpr = traced.closed.jaxpr
    operands = [made.value(traced.scope.axes[v]) for v in jaxpr.invars]
    consts = [
        made.constant(c, traced.scope.axes[v])
        for c, v in zip(traced.closed.consts, jaxpr.constvars, strict=True)
    ]
    outputs = made.run(jaxpr, traced.scope, consts, operands)
    n, m = len(traced.params), len(traced.state)
    makers = {v: k for k, step in enumerate(made.steps) for v in step.outputs}
    return Flat(
        made.steps, made.axes, made.known, operands[:n], operands[n : n + m], outputs, makers
    )
