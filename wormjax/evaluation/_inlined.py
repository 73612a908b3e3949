"""A jaxpr as a graph of values, with every call that runs once put in place of its equation.

What a value is made of is then one chain of operations, however many ``jit`` and ``custom_jvp`` lie
between; JAX uses one jaxpr object for every call of a jitted function, so its variables alone do not tell
which call they belong to. Loops and branches keep their equation: they are graphs of their own.
"""

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from wormjax._jaxprs import CALLS, jaxprs, opened


@dataclasses.dataclass(eq=False)
class Value:
    """One array of the program; every value is itself alone.

    Attributes:
      shape: its shape; ``()`` for what is no array.
      bytes: its size; 0 for what is no array.
      op: what computes it; None for arguments, constants and literals.
      literal: the number that it is, if it stands in the program as one.
    """

    shape: tuple[int, ...]
    bytes: int
    op: "Op | None" = None
    literal: Any = None

    @property
    def size(self) -> int:
        """Number of its entries."""
        return math.prod(self.shape)


class Op(NamedTuple):
    """One equation in its place."""

    eqn: JaxprEqn
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]

    @property
    def name(self) -> str:
        """The primitive's name."""
        return self.eqn.primitive.name


class Graph(NamedTuple):
    """A program.

    Attributes:
      arguments: in the jaxpr's order.
      constants: what it closes over.
      ops: in the order in which they are written.
      outputs: in the jaxpr's order; an argument that is handed through is among them.
    """

    arguments: tuple[Value, ...]
    constants: tuple[Value, ...]
    ops: tuple[Op, ...]
    outputs: tuple[Value, ...]


def inlined(jaxpr: Jaxpr | ClosedJaxpr, calls: Collection[str] = CALLS) -> Graph:
    """Return the graph of a jaxpr.

    Args:
      jaxpr: the program.
      calls: names of the primitives that are put in line; the others keep their equation.

    Example:
      >>> import jax
      >>> graph = inlined(jax.make_jaxpr(lambda x: jax.nn.relu(jax.numpy.sin(x)))(1.0))
      >>> [op.name for op in graph.ops]
      ['sin', 'max']
      >>> graph.ops[1].inputs[0].op.name
      'sin'
    """
    top = opened(jaxpr)
    arguments = tuple(_value(v) for v in top.invars)
    constants = tuple(_value(v) for v in top.constvars)
    known = dict(zip([*top.invars, *top.constvars], [*arguments, *constants], strict=True))
    ops: list[Op] = []
    closed: list[Value] = list(constants)
    outputs = _run(top, known, ops, closed, calls)
    return Graph(arguments, tuple(closed), tuple(ops), outputs)


def _run(
    jaxpr: Jaxpr,
    known: dict[Any, Value],
    ops: list[Op],
    closed: list[Value],
    calls: Collection[str],
) -> tuple[Value, ...]:
    for eqn in jaxpr.eqns:
        inputs = tuple(_read(v, known) for v in eqn.invars)
        call = called(eqn, calls)
        if call is None:
            outputs = tuple(_value(v) for v in eqn.outvars)
            ops.append(op := Op(eqn, inputs, outputs))
            for value in outputs:
                value.op = op
        else:
            constants = [_value(v) for v in call.constvars]
            closed += constants
            inside = dict(zip([*call.invars, *call.constvars], [*inputs, *constants], strict=True))
            outputs = _run(call, inside, ops, closed, calls)
        known.update(zip(eqn.outvars, outputs, strict=True))
    return tuple(_read(v, known) for v in jaxpr.outvars)


def called(eqn: JaxprEqn, calls: Collection[str] = CALLS) -> Jaxpr | None:
    """Return the function that an equation does nothing but call, if it is one of ``calls``."""
    if eqn.primitive.name not in calls:
        return None
    inner = [opened(one) for one in jaxprs(eqn.params.values())]
    fits = len(inner) == 1 and len(inner[0].invars) == len(eqn.invars)
    return inner[0] if fits else None


def _read(variable: Any, known: Mapping[Any, Value]) -> Value:
    if isinstance(variable, Literal):
        literal = _value(variable)
        literal.bytes, literal.literal = 0, variable.val  # it is part of the code
        return literal
    return known[variable]


def _value(variable: Any) -> Value:
    aval = variable.aval
    shape = tuple(getattr(aval, "shape", ()))
    dtype = getattr(aval, "dtype", None)
    return Value(shape, 0 if dtype is None else math.prod(shape) * dtype.itemsize)


def before(value: Value, through: frozenset[str]) -> Iterator[Value]:
    """Yield a value and what it was, step by step, before operations that only change its form.

    Args:
      value: where to begin.
      through: names of primitives whose first argument is what they change.

    Example:
      >>> import jax
      >>> graph = inlined(jax.make_jaxpr(lambda x: -jax.numpy.reshape(x, (2, 2)))(jax.numpy.ones(4)))
      >>> [v.shape for v in before(graph.outputs[0], frozenset({"neg", "reshape"}))]
      [(2, 2), (2, 2), (4,)]
    """
    yield value
    while value.op is not None and value.op.name in through:
        value = value.op.inputs[0]
        yield value
