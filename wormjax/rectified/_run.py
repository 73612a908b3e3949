"""Running a program otherwise: rectifiers settled, normalisations left out, exponents kept apart.

The jaxpr of a network is evaluated equation by equation. What does not depend on the input is computed as it is
written; what is linear in the input is a `Signal`, and every equation on signals has a rule. Three questions have
settings:

* rectifiers ``max(x, 0)``, ``where(x > 0, x, a * x)`` and their like: *record* evaluates the network and keeps the
  decisions, *gated* uses such decisions again, *identity* takes the branch of positive signals;
* what is no path: unless ``literal``, biases, running means and other shifts are dropped, signs of fixed numbers
  too, and the scale of a normalisation becomes ``factor(scale)`` or is left out;
* range: unless ``literal``, a signal is held near 1 by a power of two that stands in its exponent, and branches that
  meet are brought to one exponent. That is exact, in residual networks too, and nothing overflows.

Max pooling stays a maximum in every run, as in the papers' code: it lies outside of their derivation.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.extend.core import Literal as Written
from jaxtyping import Array

from wormjax._jaxprs import CALLS, jaxprs, opened, scanned
from wormjax._source import source_line
from wormjax.rectified._binary import aligned, balanced
from wormjax.rectified._values import LITERAL, SCALE, Fixed, Gate, Signal, Unknown, Value

Rectifiers = Literal["record", "gated", "identity"]
Rule = Callable[..., Sequence[Value] | None]


@dataclasses.dataclass(eq=False)
class Run:
    """One evaluation.

    Attributes:
      rules: by primitive; a rule returns None where it does not know the kinds of its operands.
      rectifiers: how they are settled.
      literal: whether shifts, signs and normalisations are computed as they are written.
      factor: what a scale becomes; None leaves it out.
      matrix: what a matrix becomes that is no weight, but closed over.
      recorded: the decisions so far.
      stored: the decisions to use.
      products: for every product of a signal with a matrix the places of the weights in it.
    """

    rules: dict[str, Rule]
    rectifiers: Rectifiers
    literal: bool = False
    factor: Callable[[Array], Array] | None = None
    matrix: Callable[[Array], Array] = jnp.abs
    recorded: list[Array] = dataclasses.field(default_factory=list)
    stored: Iterator[Array] = dataclasses.field(default_factory=lambda: iter(()))
    products: list[frozenset[int]] = dataclasses.field(default_factory=list)

    def closed(self, jaxpr: Jaxpr | ClosedJaxpr, operands: Sequence[Value]) -> list[Value]:
        """Evaluate a jaxpr with its constants."""
        consts = jaxpr.consts if isinstance(jaxpr, ClosedJaxpr) else ()
        inner = opened(jaxpr)
        values: dict[Any, Value] = {
            v: Fixed(c, SCALE if jnp.ndim(c) else LITERAL)
            for v, c in zip(inner.constvars, consts, strict=True)
        }
        values.update(zip(inner.invars, operands, strict=True))

        def read(atom: Any) -> Value:
            return Fixed(atom.val) if isinstance(atom, Written) else values[atom]

        for eqn in inner.eqns:
            with eqn.ctx.manager:  # the mesh that was set around this equation, among others
                results = self.equation(eqn, *map(read, eqn.invars))
            values.update(zip(eqn.outvars, results, strict=True))
        return [read(v) for v in inner.outvars]

    def equation(self, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
        """Evaluate one equation."""
        for value in operands:
            if isinstance(value, Unknown):
                return [value] * len(eqn.outvars)
        if all(isinstance(value, Fixed) for value in operands):
            return [of_fixed(x, operands) for x in bind(eqn, operands)]
        inner = list(jaxprs(eqn.params.values()))
        if eqn.primitive.name in CALLS:
            bodies = [one for one in inner if len(opened(one).invars) == len(operands)]
            if len(bodies) == 1:
                return [_placed(v, eqn) for v in self.closed(bodies[0], operands)]
        if eqn.primitive.name == "scan":
            return self._scan(eqn, operands)
        rule = self.rules.get(eqn.primitive.name)
        found = None if rule is None else rule(self, eqn, *operands)
        if found is None:
            where = Unknown(eqn.primitive.name, source_line(eqn))
            return [where] * len(eqn.outvars)
        return found

    def signal(self, array: Array, exponent: Array | None, **changes: Any) -> Signal:
        """Return a signal held near 1."""
        if exponent is not None:
            array, exponent = balanced(array, exponent)
        return Signal(array, exponent, **changes)

    def together(self, signals: Sequence[Signal]) -> tuple[list[Array], Array | None]:
        """Return the arrays of several signals at one exponent."""
        if self.literal:
            return [s.array for s in signals], None
        return aligned([(s.array, s.exponent) for s in signals])  # type: ignore[misc]

    def decide(self, decision: Callable[[], Array], positive: bool) -> Array:
        """Return a rectifier's decision: a new one, a stored one, or that for positive signals."""
        if self.rectifiers == "record":
            self.recorded.append(decision())
            return self.recorded[-1]
        like = jax.eval_shape(decision)
        if self.rectifiers == "identity":
            return jnp.full(like.shape, positive)
        found = next(self.stored, None)
        if found is None or found.shape != like.shape:
            raise ValueError(
                "The stored decisions of the rectifiers are not those of this network: "
                f"one of shape {like.shape} is wanted, {'none is left' if found is None else found.shape}. "
                "Record them from the same function on inputs of the same shape."
            )
        return found

    def _scan(self, eqn: JaxprEqn, operands: Sequence[Value]) -> Sequence[Value]:
        """Evaluate a loop over stacked layers step by step."""
        consts, carries = scanned(eqn)
        body, length = eqn.params["jaxpr"], eqn.params["length"]
        fixed, carry = list(operands[:consts]), list(operands[consts : consts + carries])
        stacks = operands[consts + carries :]
        steps = range(length)
        written: list[list[Value]] = []
        for i in reversed(steps) if eqn.params["reverse"] else steps:
            found = self.closed(body, [*fixed, *carry, *(_entry(stack, i) for stack in stacks)])
            carry = found[:carries]
            written.append(found[carries:])
        if eqn.params["reverse"]:
            written.reverse()
        return [*carry, *(self._stacked(eqn, column) for column in zip(*written, strict=True))]

    def _stacked(self, eqn: JaxprEqn, column: Sequence[Value]) -> Value:
        if all(isinstance(v, Fixed) for v in column):
            return of_fixed(jnp.stack([v.array for v in column if isinstance(v, Fixed)]), column)
        if all(isinstance(v, Signal) for v in column):
            arrays, exponent = self.together([v for v in column if isinstance(v, Signal)])
            return Signal(jnp.stack(arrays), exponent)
        return Unknown(eqn.primitive.name, source_line(eqn))


def bind(eqn: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
    """Apply an equation's primitive to the arrays of its operands; always a list."""
    arrays = [v.array for v in operands]
    results = eqn.primitive.bind(*arrays, **eqn.primitive.get_bind_params(eqn.params))
    return list(results) if eqn.primitive.multiple_results else [results]


def shape_of(eqn: JaxprEqn) -> tuple[int, ...]:
    """Return the shape of an equation's first result."""
    aval: Any = eqn.outvars[0].aval
    return aval.shape


def of_fixed(array: Any, operands: Sequence[Value]) -> Fixed:
    """Return an array that was computed from fixed values."""
    fixed = [v for v in operands if isinstance(v, Fixed)]
    leaves = frozenset[int]().union(*(v.leaves for v in fixed))
    return Fixed(array, max((v.origin for v in fixed), default=LITERAL), leaves)


def _placed(value: Value, eqn: JaxprEqn) -> Value:
    """Give what a library's function could not compute the line that calls the function."""
    unplaced = isinstance(value, Unknown) and not value.line
    return Unknown(value.primitive, source_line(eqn)) if unplaced else value  # type: ignore[union-attr]


def _entry(stack: Value, i: int) -> Value:
    if isinstance(stack, Fixed):
        return Fixed(stack.array[i], stack.origin, stack.leaves)
    if isinstance(stack, Signal):
        return Signal(stack.array[i], stack.exponent)
    return stack if isinstance(stack, Unknown) else Gate(stack.array[i])
