"""Parameters, and the most memory that a function's values take at once, from its jaxpr."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr
from jaxtyping import PyTree

from wormjax._jaxprs import jaxprs
from wormjax.evaluation._inlined import Op, Value, inlined
from wormjax.evaluation._walk import devices


class Memory(NamedTuple):
    """What the values of one call take, in bytes.

    Attributes:
      arguments: of all arguments, parameters among them, and of the constants that the function closes over.
      activations: the most that computed values take at once, outputs among them, arguments not.
      outputs: of the outputs that are computed; an argument handed through takes nothing.
    """

    arguments: int
    activations: int
    outputs: int


def parameters(tree: PyTree) -> int:
    """Count the entries of all leaves of a tree.

    Args:
      tree: arrays or ``jax.ShapeDtypeStruct``; a weight that two layers share counts once where the tree
        holds it once.

    Returns:
      An exact Python integer of any size.

    Example:
      >>> import jax.numpy as jnp
      >>> parameters({"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)})
      16
    """
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def peak_memory(fn: Callable[..., Any], *args: Any) -> Memory:
    r"""Find the most memory that the values of one call take at once, by tracing it.

    Every value lives from the equation that computes it to the last that reads it, an output to the end:

    .. math:: \text{activations} = \max_i \sum_{v \,:\, \text{born}(v) \le i \le \text{dies}(v)} \text{bytes}(v)

    Equations run in the order of the trace. Plain calls (``jit``, ``custom_jvp``, ``remat``) are looked
    through. A ``scan`` holds its results, a slice of what it scans over and what its body needs; a ``while``
    its result and the dearer of body and condition; a ``cond`` what the dearest branch needs; a ``shard_map``
    that on each of its devices.

    This is what the trace needs as it stands. A compiler needs less where it fuses (an element-wise chain then
    never exists as arrays), writes a result over an operand, takes donated arguments, or reorders; it needs
    more where a kernel has a workspace (a convolution by matrix products, a sort), or where it pads and
    aligns. So this compares networks without compiling them; ``compiled.memory_analysis()`` says what one
    program takes on one device.

    Args:
      fn: a function of arrays. It is traced, never run; static arguments go in by ``functools.partial``. For
        training give the function that takes the gradient.
      *args: its arguments: arrays, ``jax.ShapeDtypeStruct``, or pytrees of these.

    Returns:
      `Memory`, exact for this rule, in bytes. A sub-byte dtype counts a whole byte an entry.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> x = jax.ShapeDtypeStruct((256,), "float32")
      >>> peak_memory(lambda x: jnp.sum(jnp.sin(jnp.cos(x))), x)
      Memory(arguments=1024, activations=2048, outputs=4)
    """
    return _of_jaxpr(jax.make_jaxpr(fn)(*args))


def _of_jaxpr(jaxpr: Jaxpr | ClosedJaxpr) -> Memory:
    graph = inlined(jaxpr)
    last: dict[Value, int] = {}
    for i, op in enumerate(graph.ops):
        last.update(dict.fromkeys((*op.outputs, *op.inputs), i))
    outputs = {value for value in graph.outputs if value.op is not None}
    dying: dict[int, list[Value]] = {}
    for value, i in last.items():
        if value.op is not None and value not in outputs:
            dying.setdefault(i, []).append(value)
    living = peak = 0
    for i, op in enumerate(graph.ops):
        born = _bytes(op.outputs)
        peak = max(peak, living + max(born, _needed(op)))
        living += born - _bytes(dying.get(i, ()))
    given = (*graph.arguments, *graph.constants)
    return Memory(_bytes(given), peak, _bytes(outputs))


def _needed(op: Op) -> int:
    """Return what an operation with functions inside takes beyond its operands, its results included."""
    inner = [_of_jaxpr(sub).activations for sub in jaxprs(op.eqn.params.values())]
    if not inner:
        return 0
    results = _bytes(op.outputs)
    if op.name == "scan":
        body = inlined(op.eqn.params["jaxpr"]).arguments
        # constants and carry have the body's shapes, what is scanned over has an axis more
        pairs = zip(op.inputs, body, strict=True)
        slices = [part for whole, part in pairs if len(part.shape) < len(whole.shape)]
        return results + _bytes(slices) + max(inner)
    if op.name == "while":
        return results + max(inner)
    if op.name == "shard_map":
        return devices(op.eqn) * max(inner)
    return max(inner)


def _bytes(values: Any) -> int:
    return sum(value.bytes for value in values)
