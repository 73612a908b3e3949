"""The whole network with a switch on every block, with views of its stream, and of what its head reads."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from wormjax.evaluation._inlined import Op, Value
from wormjax.layers._candidates import Candidates
from wormjax.structure._program import FORMS, Program, program_of
from wormjax.structure._residual import Scanned, bases, scan_of
from wormjax.structure._rewritten import Rewritten

CONTRACTIONS = ("dot_general", "conv_general_dilated")


def switched(found: Candidates) -> Callable[..., Any]:
    r"""Return the network with a factor on every block's branch.

    .. math:: z = x + g_i \, f_i(x)

    A step of a scan is on where its factor is not 0, and hands its carry on where it is. Nothing is recompiled when
    the factors change, and no parameter is touched.

    Args:
      found: from `candidates`; call the result for inputs of the example's shapes.

    Returns:
      ``function(gates, params, *inputs)``, or ``function(gates, params, state, *inputs)``: like the original,
      ``gates`` float of shape ``(len(found),)``, in the order of ``found.names``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from wormjax import layers
      >>> params = [{"up": jnp.ones((1, 8)), "down": jnp.ones((8, 1))} for _ in range(3)]
      >>> def apply(params, x):
      ...     for p in params:
      ...         x = x + jax.nn.relu(x @ p["up"]) @ p["down"]
      ...     return x
      >>> found = layers.candidates(apply, params, jnp.ones((1, 1)))
      >>> print(layers.switched(found)(jnp.array([0.0, 1.0, 0.0]), params, jnp.ones((1, 1))))
      [[9.]]
    """
    scans = _scans(found)

    def function(gates: Float[Array, " _"], params: PyTree, *rest: PyTree) -> Any:
        if gates.shape != (len(found),):
            raise ValueError(
                f"switched takes {len(found)} factors, one a candidate, and got shape {gates.shape}."
            )
        by_value: dict[Value | int, Any] = {}
        for k, candidate in enumerate(found):
            for name in candidate.branches:
                value = found.branches[name].value
                if value is not None:
                    by_value[value] = gates[k]
        for position, told in scans.items():
            of_steps = {
                found.branches[c.name].step: k
                for k, c in enumerate(found)
                if found.branches[c.branches[0]].sum == position
            }
            rows = [gates[of_steps[t]] if t in of_steps else 1.0 for t in range(told.length)]
            by_value[position] = jnp.stack([jnp.asarray(x, gates.dtype) for x in rows])
        carries = {position: told.carry for position, told in scans.items()}
        live, _ = found.program.needed(found.program.graph.outputs, {})
        run = Rewritten(found.program, live, gates=by_value, carries=carries)
        return _called(found.program, run, (params, *rest))

    return function


def streams(found: Candidates) -> Callable[..., tuple[Any, list[Array]]]:
    """Return the network with views of its stream.

    Args:
      found: from `candidates`; call the result for inputs of the example's shapes.

    Returns:
      ``function(params, *inputs)`` or ``function(params, state, *inputs)``: the original's result, and for every
      candidate the stream behind it, the sum of identity and branch.
    """
    scans = _scans(found)

    def function(params: PyTree, *rest: PyTree) -> tuple[Any, list[Array]]:
        last = {c.name: found.branches[c.branches[-1]] for c in found}
        live, _ = found.program.needed(found.program.graph.outputs, {})
        run = Rewritten(
            found.program,
            live,
            views={b.sum for b in last.values()},
            carries={position: told.carry for position, told in scans.items()},
        )
        out = _called(found.program, run, (params, *rest))
        views = [
            run.seen[b.sum] if b.step is None else run.seen[b.sum][b.step] for b in last.values()
        ]
        return out, views

    return function


def penultimate(
    apply: Callable[..., Any],
    params: PyTree,
    *inputs: PyTree,
    state: PyTree | None = None,
    with_output: bool = False,
) -> Any:
    """Return what the network's head reads: the input of the last matrix product or convolution with a parameter.

    Args:
      apply: any JAX function, as `candidates` takes it.
      params: its parameters.
      inputs: its inputs.
      state: its state, where it has one.
      with_output: return the pair of the function's output (without the new state) and the features, of one run.

    Returns:
      The features, in the shape in which the head reads them.

    Raises:
      ValueError: there is no such product.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"up": jnp.ones((2, 3)), "head": jnp.ones((3, 1))}
      >>> apply = lambda params, x: jnp.tanh(x @ params["up"]) @ params["head"]
      >>> penultimate(apply, params, jnp.ones((1, 2))).shape
      (1, 3)
    """
    program = program_of(apply, params, inputs, state)
    live, _ = program.needed(program.outputs, {})
    depends = set(program.inputs)
    heads: list[tuple[int, Value]] = []
    for k, op in enumerate(program.graph.ops):
        if not any(v in depends for v in op.inputs):
            continue
        depends.update(op.outputs)
        if k in live and op.name in CONTRACTIONS:
            heads += [(k, v) for v in _features(program, op, depends)]
    if not heads:
        raise ValueError(
            "No parameter is multiplied with what comes from the input, so there is no head."
        )
    _, features = heads[-1]
    roots = [features, *program.outputs] if with_output else [features]
    views = [k for k in (program.made_by.get(features),) if k is not None]
    run = Rewritten(program, program.needed(roots, {})[0], views=views)
    flat = jax.tree.leaves((params, inputs) if state is None else (params, state, inputs))
    results = run(flat)
    # features that nothing makes are an input
    found = run.seen[views[0]] if views else flat[program.graph.arguments.index(features)]
    if not with_output:
        return found
    tree = program.out_tree if state is None else program.out_tree.children()[0]
    return jax.tree.unflatten(tree, results[: len(program.outputs)]), found


def _features(program: Program, op: Op, depends: set[Value]) -> list[Value]:
    params = set(program.params)
    is_weight = [any(b in params for b in bases(program, v, FORMS)) for v in op.inputs]
    return [
        v for v, other in zip(op.inputs, reversed(is_weight), strict=True) if v in depends and other
    ]


def _scans(found: Candidates) -> dict[int, Scanned]:
    positions = {b.sum for b in found.branches.values() if b.step is not None}
    told = {k: scan_of(found.program, k) for k in sorted(positions)}
    return {k: t for k, t in told.items() if isinstance(t, Scanned)}


def _called(program: Program, run: Rewritten, arguments: Sequence[PyTree]) -> Any:
    flat = jax.tree.leaves(tuple(arguments))
    for array, value in zip(flat, program.graph.arguments, strict=True):
        if tuple(np.shape(array)) != value.shape:
            raise ValueError(
                f"An array of shape {np.shape(array)} was given where the candidates were found on {value.shape}. "
                "Find them on inputs of the shape that is used, the batch included."
            )
    return jax.tree.unflatten(program.out_tree, run(flat))
