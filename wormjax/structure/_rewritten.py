"""Running a traced network in another way: without some branches, with a switch on each, or with views of its stream.

The program's equations are bound once more, one by one; calls are put in line (a block under `jax.checkpoint` stays
one), what no result depends on is not run, and functions with their own derivative stay what they are.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun

from wormjax._jaxprs import scanned
from wormjax.evaluation._inlined import Value, called
from wormjax.evaluation._walk import jaxprs
from wormjax.structure._program import IN_LINE, REMAT, Program
from wormjax.structure._replay import bind


@dataclasses.dataclass(eq=False)
class Rewritten:
    """One run of a program.

    Attributes:
      program: the program.
      live: positions of the operations that run.
      stays: for a sum that has lost a summand, which operand it hands on.
      steps: for a scan that has lost steps, the steps that it keeps.
      gates: for a summand, the number that it is multiplied by; for a scan's position, one number a step.
      views: positions of the operations whose first result is looked at; of a scan, that of each step's carry.
      carries: for a scan that has gates or is viewed, which part of its carry is the stream.
      seen: what was seen.
    """

    program: Program
    live: Collection[int]
    stays: Mapping[int, int] = dataclasses.field(default_factory=dict)
    steps: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)
    gates: Mapping[Value | int, Any] = dataclasses.field(default_factory=dict)
    views: Collection[int] = ()
    carries: Mapping[int, int] = dataclasses.field(default_factory=dict)
    seen: dict[int, Any] = dataclasses.field(default_factory=dict)
    _next: int = 0

    def __call__(self, operands: Sequence[Any]) -> list[Any]:
        """Run the program on its flat arguments; a result on which nothing was computed is None."""
        closed = self.program.closed
        self._next = 0
        return self._run(closed.jaxpr, closed.consts, operands)

    def _run(self, jaxpr: Jaxpr, consts: Sequence[Any], operands: Sequence[Any]) -> list[Any]:
        values: dict[Var, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
        values.update(zip(jaxpr.invars, operands, strict=True))

        def read(atom: Var | Literal) -> Any:
            return atom.val if isinstance(atom, Literal) else values.get(atom)

        for eqn in jaxpr.eqns:
            with eqn.ctx.manager:  # the mesh that was set around this equation, among others
                if called(eqn, IN_LINE) is None:
                    k, self._next = self._next, self._next + 1
                    results = self._bind(k, eqn, read) if k in self.live else []
                else:
                    results = self._call(eqn, [read(v) for v in eqn.invars])
            values.update(zip(eqn.outvars, results, strict=False))
        return [read(v) for v in jaxpr.outvars]

    def _call(self, eqn: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
        [inner] = jaxprs(eqn.params.values())
        consts = inner.consts if isinstance(inner, ClosedJaxpr) else ()
        opened = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
        if eqn.primitive.name not in REMAT or self.views:
            return self._run(opened, consts, operands)
        given = [k for k, x in enumerate(operands) if x is not None]
        made: list[int] = []

        def block(*arrays: Any) -> list[Any]:
            filled = dict(zip(given, arrays, strict=True))
            results = self._run(opened, consts, [filled.get(k) for k in range(len(operands))])
            made[:] = [k for k, x in enumerate(results) if x is not None]
            return [results[k] for k in made]

        again = jax.checkpoint(
            block, prevent_cse=eqn.params["prevent_cse"], policy=eqn.params["policy"]
        )
        results = again(*(operands[k] for k in given))
        by_place = dict(zip(made, results, strict=True))
        return [by_place.get(k) for k in range(len(eqn.outvars))]

    def _bind(self, k: int, eqn: JaxprEqn, read: Any) -> list[Any]:
        if k in self.stays:
            return self._viewed(k, [read(eqn.invars[self.stays[k]])])
        operands = [read(v) for v in eqn.invars]
        if k in self.steps:
            operands, eqn = self._fewer(k, eqn, operands)
        if k in self.gates or (k in self.views and k in self.carries):
            return self._stepwise(k, eqn, operands)
        for j, value in enumerate(self.program.graph.ops[k].inputs):
            if value in self.gates:
                operands[j] = operands[j] * self.gates[value].astype(operands[j].dtype)
        return self._viewed(k, bind(eqn, operands))

    def _viewed(self, k: int, results: list[Any]) -> list[Any]:
        if k in self.views:
            self.seen[k] = results[0]
        return results

    def _fewer(self, k: int, eqn: JaxprEqn, operands: list[Any]) -> tuple[list[Any], JaxprEqn]:
        """Scan over the kept rows; what is given with a row a kept step is taken as it is."""
        n, m = scanned(eqn)
        kept = self.steps[k]
        rows = [x if x.shape[0] == len(kept) else x[kept] for x in operands[n + m :]]
        changed = eqn.replace(params={**eqn.params, "length": len(kept)})
        return [*operands[: n + m], *rows], changed

    def _stepwise(self, k: int, eqn: JaxprEqn, operands: list[Any]) -> list[Any]:
        """Scan with a switch on each step, or with its carry seen after each."""
        n, m = scanned(eqn)
        consts, carry, xs = operands[:n], operands[n : n + m], operands[n + m :]
        gates = self.gates.get(k)
        body = jaxpr_as_fun(eqn.params["jaxpr"])

        def step(before: list[Any], row: Any) -> tuple[list[Any], Any]:
            x, gate = row
            results = body(*consts, *before, *x)
            after = results[:m]
            if gate is not None:
                after = [jnp.where(gate != 0, a, b) for a, b in zip(after, before, strict=True)]
            return after, (results[m:], after[self.carries[k]] if k in self.views else None)

        length, reverse = eqn.params["length"], eqn.params["reverse"]
        out, (ys, stream) = lax.scan(step, carry, (xs, gates), length=length, reverse=reverse)
        if k in self.views:
            self.seen[k] = stream
        return [*out, *ys]
