"""What a structured ticket costs when it runs: densities, multiplications and measured time, side by side."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from wormjax._table import as_text
from wormjax.evaluation import latency, macs

ROUNDS = 30  # fewer say little of a median


class Contender(NamedTuple):
    """A network that is timed.

    Attributes:
      apply: ``apply(params, *inputs)``, or ``apply(params, state, *inputs) -> (output, new_state)``.
      params: its parameters.
      state: its state, or None.
      nominal: fraction of weights that its masks keep.
      executed: fraction of weights that it multiplies with.
      equals: another contender whose output it must have.
      macs: its multiply-accumulates, where tracing cannot count them, as in a kernel; None to count.
    """

    apply: Callable[..., Any]
    params: PyTree
    state: PyTree = None
    nominal: float = 1.0
    executed: float = 1.0
    equals: str | None = None
    macs: int | None = None


class ExecutionRow(NamedTuple):
    """What was found of one contender.

    Attributes:
      name: its name.
      nominal: fraction of weights that its masks keep.
      executed: fraction of weights that it multiplies with.
      parameters: numbers in its parameters.
      macs: multiply-accumulates on the inputs.
      median: seconds.
      least: seconds.
      ratio: how many times as fast as the first contender, the median over rounds.
    """

    name: str
    nominal: float
    executed: float
    parameters: int
    macs: int
    median: float
    least: float
    ratio: float


def execution_report(
    contenders: Mapping[str, Contender],
    *inputs: PyTree,
    rounds: int = ROUNDS,
    tolerance: float = 1e-4,
) -> tuple[ExecutionRow, ...]:
    """Compare networks on the same inputs, in turn, after they were found equal where they must be.

    Args:
      contenders: by name; the first is what the others are compared with, and should be dense.
      inputs: a batch, of the shapes that the network will see.
      rounds: how often each is timed, at least 30.
      tolerance: largest absolute difference of outputs, where ``equals`` is given.

    Returns:
      A row for each.

    Raises:
      ValueError: two outputs differ, or there are too few rounds.

    Example:
      >>> import jax.numpy as jnp
      >>> twice = Contender(lambda p, x: x @ p, jnp.ones((3, 2)), executed=0.5, equals="dense")
      >>> dense = Contender(lambda p, x: x @ p, jnp.ones((3, 2)))
      >>> rows = execution_report({"dense": dense, "same": twice}, jnp.ones((4, 3)))
      >>> rows[1].name, rows[1].macs, rows[1].executed
      ('same', 24, 0.5)
    """
    if rounds < ROUNDS:
        raise ValueError(f"rounds={rounds}: take {ROUNDS} at least, or the median says little.")
    compiled: dict[str, Callable[[], Any]] = {}
    outputs: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for name, c in contenders.items():
        given = (c.params, *inputs) if c.state is None else (c.params, c.state, *inputs)
        program = jax.jit(functools.partial(_output, c.apply, c.state is not None))
        compiled[name] = functools.partial(program.lower(*given).compile(), *given)
        outputs[name] = np.asarray(compiled[name](), np.float32)
        counts[name] = macs(c.apply, *given) if c.macs is None else c.macs
        if c.equals is not None:
            difference = float(np.abs(outputs[name] - outputs[c.equals]).max())
            if not difference <= tolerance:
                raise ValueError(
                    f"{name!r} differs from {c.equals!r} by {difference:.1e}, more than {tolerance:.0e}: they are not "
                    "the same network, and their times cannot be compared."
                )
    samples = latency(compiled, rounds=rounds, warmup=2)
    first = next(iter(contenders))
    return tuple(
        ExecutionRow(
            name,
            c.nominal,
            c.executed,
            sum(int(np.prod(x.shape)) for x in jax.tree.leaves(c.params)),
            counts[name],
            float(samples.median(name)),
            float(min(samples.seconds[name])),
            float(samples.ratio(first, name).median),
        )
        for name, c in contenders.items()
    )


def execution_table(rows: tuple[ExecutionRow, ...]) -> str:
    """Return the rows as aligned text; nobody reads a nominal density alone from it."""
    head = ("", "nominal", "executed", "parameters", "MACs", "median ms", "min ms", "speed-up")
    body = [
        (r.name, f"{r.nominal:.3f}", f"{r.executed:.3f}", f"{r.parameters:,}", f"{r.macs:,}",
         f"{1e3 * r.median:.3f}", f"{1e3 * r.least:.3f}", f"{r.ratio:.2f}")
        for r in rows
    ]  # fmt: skip
    return as_text(head, body, set(range(1, 8)))


def _output(apply: Callable[..., Any], has_state: bool, *given: PyTree) -> Any:
    result = apply(*given)
    return result[0] if has_state else result
