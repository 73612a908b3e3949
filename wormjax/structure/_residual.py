"""Residual branches of any JAX function, found in its jaxpr.

    z = x + f(x)        f is a branch where x, a step of the same shape, is one of its own ancestors

Without it the network computes z = x: the branch can go as a whole, with every parameter that nothing else reads.
A sum of two paths neither of which begins in the other (a projection beside a strided convolution) is a block that
must stay. A scan whose carry is such a chain of sums can lose single steps.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp

from wormjax._jaxprs import scanned
from wormjax.evaluation._inlined import Graph, Op, Value, inlined
from wormjax.evaluation._macs import of_equation
from wormjax.evaluation._walk import of_inner, total
from wormjax.structure._branch import Branch, Residual, Scanned
from wormjax.structure._branch_names import named
from wormjax.structure._program import CASTS, FORMS, IN_LINE, SUMS, Program

_PARALLEL = 3  # branches that read one x and are added one after the other: x + f(x) + g(x)


def find_residual(program: Program) -> Residual:
    """Find what can go."""
    finder = _Finder(program)
    branches = [*finder.sums(), *finder.steps()]
    branches.sort(key=lambda b: (b.sum, b.step or 0))
    fixed = finder.fixed(branches)
    stages = _stages(branches, fixed, program)
    staged = [dataclasses.replace(b, stage=stages[b.sum]) for b in branches]
    return Residual(
        tuple(named(staged, program)),
        tuple((k, stages[k]) for k in fixed),
        tuple(finder.refused),
    )


def bases(program: Program, value: Value, through: frozenset[str] = FORMS) -> Iterator[Value]:
    """Yield a value and what it was before it was handed on in other forms."""
    yield value
    op = program.op(value)
    while op is not None and op.name in through and len(op.inputs) == 1:
        value = op.inputs[0]
        yield value
        op = program.op(value)


class _Finder:
    def __init__(self, program: Program):
        self.program = program
        self.ops, self.values = program.needed(program.outputs, {})
        self.before = {v: k for k, v in enumerate(_in_order(program.graph))}
        self.leaves = {v: k for k, v in enumerate(program.params)}
        self.streams: dict[Value, Value] = {}  # of the sums found so far: their identity
        self.refused: list[str] = []

    def sums(self) -> list[Branch]:
        found = []
        for k in sorted(self.ops):
            op = self.program.graph.ops[k]
            if not _is_sum(op):
                continue
            for stream, term in (op.inputs, op.inputs[::-1]):
                whole = self._branch(k, stream, term)
                if whole is not None:
                    self.streams[op.outputs[0]] = stream
                    found += self._parts(whole, stream) or [whole]
                    break
        return found

    def _branch(self, k: int, stream: Value, term: Value) -> Branch | None:
        ends = {e for origin in self._origins(stream) for e in bases(self.program, origin)}
        if not self._descends(term, ends):
            return None
        users = [self.program.graph.ops[u].name for u in self.program.users[term]]
        if not SUMS.issuperset(users) or term in self.program.graph.outputs:
            return None  # it is more than a summand: without it something else would change
        kept, read = self.program.needed(self.program.outputs, self.program.zeros({term}))
        gone = self.ops - kept
        reads = {p for o in gone for v in self.program.graph.ops[o].inputs for p in self._param(v)}
        if not reads:
            return None  # no parameter: x + 0.04 x^3 inside an activation
        owned = tuple(p for v, p in self.leaves.items() if v in self.values and v not in read)
        work = [self.program.graph.ops[o] for o in gone]
        return Branch(
            name="",
            stage=-1,
            shape=term.shape,
            sum=k,
            value=term,
            step=None,
            owned=owned,
            reads=tuple(sorted(reads)),
            parameters=sum(self.program.params[p].size for p in owned),
            macs=sum(map(_macs, work)),
            ops=frozenset(gone),
        )

    def _parts(self, whole: Branch, stream: Value) -> list[Branch]:
        """The summands of a branch that is itself a sum of branches: x + (attention(x) + mlp(x))."""
        op = self.program.op(whole.value) if whole.value is not None else None
        if op is None or not _is_sum(op):
            return []
        parts = [self._branch(whole.sum, stream, term) for term in op.inputs]
        if any(part is None for part in parts):
            return []
        return [q for part in parts if part for q in self._parts(part, stream) or [part]]

    def _param(self, value: Value) -> list[int]:
        return [self.leaves[v] for v in bases(self.program, value) if v in self.leaves]

    def _origins(self, stream: Value) -> list[Value]:
        """A stream, and what it was before the last sums of one block."""
        found = [stream]
        for _ in range(_PARALLEL):
            inside = [v for v in bases(self.program, found[-1]) if v in self.streams]
            if not inside:
                break
            found.append(self.streams[inside[0]])
        return found

    def _descends(self, value: Value, ends: set[Value]) -> bool:
        """Whether a value is computed from one of several."""
        first = min(self.before[e] for e in ends)
        seen, stack = set[Value](), [value]
        while stack:
            v = stack.pop()
            op = self.program.op(v)
            for w in op.inputs if op else ():
                if w in ends:
                    return True
                if w not in seen and self.before.get(w, -1) > first:
                    seen.add(w)
                    stack.append(w)
        return False

    def fixed(self, branches: Sequence[Branch]) -> list[int]:
        """Positions of the sums of two paths from one point, neither of which is the identity."""
        inside = {o for b in branches if b.value is not None for o in b.ops}
        is_residual = {b.sum for b in branches}
        depends = set(self.program.inputs)
        for op in self.program.graph.ops:
            if any(v in depends for v in op.inputs):
                depends.update(op.outputs)
        found = []
        for k in sorted(self.ops - inside - is_residual):
            op = self.program.graph.ops[k]
            if not _is_sum(op) or not all(v in depends for v in op.inputs):
                continue
            a, b = (self.program.needed([v], {}) for v in op.inputs)
            common = {v for v in a[1] & b[1] if v in depends and v in self.program.made_by}
            only = (a[0] ^ b[0]) & self.ops
            reads = any(self._param(v) for o in only for v in self.program.graph.ops[o].inputs)
            if common and reads:
                found.append(k)
        return found

    def steps(self) -> list[Branch]:
        """Steps of scans over stacked layers."""
        found = []
        for k in sorted(self.ops):
            op = self.program.graph.ops[k]
            if op.name != "scan":
                continue
            told = scan_of(self.program, k)
            if isinstance(told, str):
                self.refused.append(told)
                continue
            n, _ = scanned(op.eqn)
            rows = sum(
                math.prod(self.program.params[p].shape[1:]) for p in told.params
            )  # entries of one step
            work = total(op.eqn.params["jaxpr"], of_equation)
            found += [
                Branch(
                    name="",
                    stage=-1,
                    shape=op.inputs[n + told.carry].shape,
                    sum=k,
                    value=None,
                    step=t,
                    owned=told.params,
                    reads=told.params,
                    parameters=rows,
                    macs=work,
                    ops=frozenset(),
                )
                for t in range(told.length)
            ]
        return found


def scan_of(program: Program, position: int) -> Scanned | str:
    """Return a scan over stacked layers, or why its steps cannot go ("" where it is none)."""
    op = program.graph.ops[position]
    n, m = scanned(op.eqn)
    length = op.eqn.params["length"]
    params = {v: k for k, v in enumerate(program.params)}
    state = {v: k for k, v in enumerate(program.state)}
    stacked, kept = [], []
    for value in op.inputs[n + m :]:
        for v in bases(program, value, CASTS):
            if v in params and v.shape[:1] == (length,) and _only_read_by(program, v, position):
                stacked.append(params[v])
            if v in state and v.shape[:1] == (length,):
                kept.append(state[v])
    if length < 2:
        return ""
    body = inlined(op.eqn.params["jaxpr"], IN_LINE)
    carried = list(zip(body.arguments[n : n + m], body.outputs[:m], strict=True))
    made = {v: k for k, o in enumerate(body.ops) for v in o.outputs}
    streams = [j for j, (v, w) in enumerate(carried) if v is not w and _is_chain(body, made, w, v)]
    others = [j for j, (v, w) in enumerate(carried) if v is not w and j not in streams]
    floating = [j for j in others if _is_float(op.eqn.outvars[j])]
    if not stacked:
        return _stacked_elsewhere(program, op.inputs[n + m :]) if len(streams) == 1 else ""
    where = f"the scan over {program.names[stacked[0]]!r}"
    if len(streams) != 1:
        return f"{where} hands on something else than x + f(x) from step to step, so none of its steps can go"
    if floating:
        return f"{where} carries a second value from step to step, so none of its steps can go"
    state_outputs = {v: k for k, v in enumerate(program.new_state)}
    reachable, _ = program.needed(program.outputs, {})
    for value in op.outputs[m:]:
        slot = state_outputs.get(value)
        is_read = value in program.outputs or any(
            u in reachable for u in program.users.get(value, ())
        )
        if is_read and slot not in kept:
            return f"an output of the model has a row for each step of {where}, so none of its steps can go"
    return Scanned(
        position, length, streams[0], tuple(dict.fromkeys(stacked)), tuple(dict.fromkeys(kept))
    )


def _stacked_elsewhere(program: Program, values: Sequence[Value]) -> str:
    """Why the parameters that a scan takes apart hold no row a step that could go ("" where it takes none)."""
    params = {v: k for k, v in enumerate(program.params)}
    for value in values:
        axis = 0
        for v in bases(program, value, CASTS | {"transpose"}):
            if v in params:
                where = f"the scan over {program.names[params[v]]!r}"
                if axis:
                    return (
                        f"{where} reads layers that are stacked on axis {axis}, so none of its steps can go; stack "
                        "them on axis 0"
                    )
                return f"{where} reads it in another form or shares it, so none of its steps can go"
            op = program.op(v)
            if op is not None and op.name == "transpose":
                axis = op.eqn.params["permutation"][axis]
    return ""


def _only_read_by(program: Program, value: Value, position: int) -> bool:
    stack = [value]
    while stack:
        for k in program.users.get(stack.pop(), ()):
            op = program.graph.ops[k]
            if k != position and op.name not in CASTS:
                return False
            stack += op.outputs if op.name in CASTS else ()
    return True


def _is_chain(body: Graph, made: dict[Value, int], value: Value, start: Value) -> bool:
    """Whether a value is ``start`` plus something, through sums alone."""
    stack = [value]
    while stack:
        v = stack.pop()
        if v is start:
            return True
        op = body.ops[made[v]] if v in made else None
        if op is not None and (_is_sum(op) or (op.name in CASTS and len(op.inputs) == 1)):
            stack += op.inputs
    return False


def _is_float(variable: Any) -> bool:
    return jnp.issubdtype(variable.aval.dtype, jnp.floating)


def _is_sum(op: Op) -> bool:
    """Whether an operation adds two arrays of one shape."""
    if op.name not in SUMS or len(op.inputs) != 2:
        return False
    return bool(op.outputs[0].shape) and all(v.shape == op.outputs[0].shape for v in op.inputs)


def _in_order(graph: Graph) -> Iterator[Value]:
    yield from graph.arguments
    yield from graph.constants
    for op in graph.ops:
        yield from op.outputs


def _macs(op: Op) -> int:
    own = of_equation(op.eqn)
    if own is not None:
        return own
    return of_inner(op.eqn, lambda jaxpr: total(jaxpr, of_equation), 0)


def _stages(branches: Sequence[Branch], fixed: Sequence[int], program: Program) -> dict[int, int]:
    """Number the runs of sums that write to a stream of one shape; those inside other branches apart."""
    sums = {b.sum: b.shape for b in branches}
    sums |= {k: program.graph.ops[k].outputs[0].shape for k in fixed}
    scans = {b.sum for b in branches if b.step is not None}

    def around(k: int) -> int:
        return min((b.sum for b in branches if k in b.ops and b.sum != k), default=-1)

    stages: dict[int, int] = {}
    last: dict[
        int, tuple[Any, int]
    ] = {}  # for each branch around, the kind and number of its last stage
    count = 0
    for k in sorted(sums):
        kind = (sorted(sums[k]), k if k in scans else None)  # a transposed stream is the same stage
        outer = around(k)
        if outer not in last or last[outer][0] != kind:
            last[outer] = kind, count
            count += 1
        stages[k] = last[outer][1]
    return stages
