"""A traced network, and its runs: recorded, gated, linear."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr
from jaxtyping import Array, Bool, Int, PyTree

from wormjax.rectified._rules import RULES
from wormjax.rectified._run import Rectifiers, Run
from wormjax.rectified._values import SCALE, WEIGHT, Fixed, Signal, Unknown, Value

Gates = tuple[Bool[Array, "..."], ...]
Scaled = tuple[Array, Int[Array, ""]]  # x and e, for x * 2**e


@dataclasses.dataclass(frozen=True)
class Network:
    """A function ``apply(params, inputs)`` as a program that can be run otherwise.

    Attributes:
      program: the jaxpr of the function on inputs of one shape.
      weights: places of the leaves, in flatten order, that are weights; what the others multiply is a scale.
    """

    program: ClosedJaxpr
    weights: frozenset[int]

    def record(self, params: PyTree, inputs: PyTree) -> tuple[Array, Gates]:
        """Evaluate the network as it is.

        Returns:
          Its output, and the decision of every rectifier in the order of the program.
        """
        run = Run(RULES, "record", literal=True)
        return self._output(run, params, inputs).array, tuple(run.recorded)

    def literal(self, params: PyTree, inputs: PyTree, gates: Gates | None) -> Array:
        """Evaluate the network with its rectifiers settled and everything else, normalisations too, as written.

        Args:
          params: the parameters.
          inputs: as the network was traced with.
          gates: stored decisions; None makes every rectifier the identity.
        """
        kind: Rectifiers = "identity" if gates is None else "gated"
        run = Run(RULES, kind, literal=True, stored=iter(gates or ()))
        return self._output(run, params, inputs).array

    def paths(
        self,
        params: PyTree,
        inputs: PyTree,
        *,
        gates: Gates | None = None,
        factor: Callable[[Array], Array] | None = None,
        matrix: Callable[[Array], Array] = jnp.abs,
    ) -> Scaled:
        """Sum over the network's paths: without shifts, signs and the range of the dtype.

        Args:
          params: the parameters; the weights among them are taken as they are and must not be negative.
          inputs: as the network was traced with, not negative.
          gates: stored decisions; None opens every rectifier.
          factor: what the scale of a normalisation becomes; None leaves it out.
          matrix: what a matrix becomes that the function closes over.

        Returns:
          ``x`` and ``e``: the outputs are ``x * 2**e``.
        """
        kind: Rectifiers = "identity" if gates is None else "gated"
        run = Run(RULES, kind, factor=factor, matrix=matrix, stored=iter(gates or ()))
        found = self._output(run, params, inputs)
        return found.array, found.exponent  # type: ignore[return-value]

    def head(self, params: PyTree, inputs: PyTree) -> frozenset[int]:
        """Return the places of the weights in the last product, which makes the logits; shapes are read."""
        run = Run(RULES, "record", literal=True)
        jax.eval_shape(lambda p, x: self._output(run, p, x).array, params, inputs)
        return run.products[-1] if run.products else frozenset()

    def _output(self, run: Run, params: PyTree, inputs: PyTree) -> Signal:
        operands: list[Value] = [
            Fixed(x, WEIGHT, frozenset((i,))) if i in self.weights else Fixed(x, SCALE)
            for i, x in enumerate(jax.tree.leaves(params))
        ]
        for x in map(jnp.asarray, jax.tree.leaves(inputs)):
            start = None if run.literal else jnp.int32(0)
            operands.append(
                run.signal(x, start) if jnp.issubdtype(x.dtype, jnp.floating) else Fixed(x)
            )
        found = run.closed(self.program, operands)
        if run.rectifiers == "gated" and next(run.stored, None) is not None:
            raise ValueError(
                "The stored decisions of the rectifiers are more than this network has. Record them from the same "
                "function on inputs of the same shape."
            )
        return _signal(found)


def network(
    apply: Callable[[PyTree, Any], Array],
    params: PyTree,
    inputs: PyTree,
    weights: Sequence[int],
) -> Network:
    """Trace a function of (params, inputs) that returns one array of outputs.

    Args:
      apply: the function; what it closes over (running statistics) is a constant, and a scale where it multiplies.
      params: any pytree of arrays; shapes are read.
      inputs: arrays, or pytree of them, or their shapes.
      weights: places, in flatten order, of the leaves of ``params`` that are weights.

    Raises:
      ValueError: ``apply`` does not return one array.
    """
    program, shape = jax.make_jaxpr(apply, return_shape=True)(params, inputs)
    if not hasattr(shape, "dtype"):
        raise ValueError(
            f"The function apply returned a {type(shape).__name__}. It must return one array of outputs "
            "(of a View: apply=lambda p, x: view.apply(p, view.state, x)[0])."
        )
    return Network(program, frozenset(weights))


def _signal(found: list[Value]) -> Signal:
    [output] = found
    if isinstance(output, Signal):
        return output
    if isinstance(output, Unknown):
        at = f" at {output.line}" if output.line else ""
        raise ValueError(
            f"The network is not piecewise linear: its output depends on {output.primitive!r}{at}, applied to a value "
            "that depends on the input. PX, SynFlow-L2 and path counts follow paths through ReLU, leaky ReLU, max "
            "pooling and normalisations; choose such an activation, or a score for any network: snip, grasp, ntk_sap."
        )
    raise ValueError(
        "The output of apply does not depend on its inputs linearly, so no path leads to it."
    )
