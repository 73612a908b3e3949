"""A ticket as a self-contained program: StableHLO with the weights inside, for batches of any size.

The program is that of one example, mapped over a batch whose size is a symbol; so the number of examples is never an
axis of the network that is traced, and what is exported is right for every size. Whether the network treats the
examples of a batch one by one (dropout and batch statistics do not) is tried out on two.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from wormjax.structure._example_inputs import example_input
from wormjax.structure._small_apply import SmallApply

PLATFORMS = ("cpu", "cuda", "tpu")


def export_network(
    apply: SmallApply,
    params: PyTree,
    state: PyTree | None,
    inputs: Sequence[PyTree],
    *,
    any_batch: bool,
    platforms: Sequence[str],
) -> jax.export.Exported:
    """Export a small network; see `Ticket.export`."""
    given = inputs or apply.inputs
    if given is None:
        raise ValueError(
            "A loaded ticket does not know its inputs: pass examples, arrays or jax.ShapeDtypeStruct."
        )
    shapes = jax.eval_shape(lambda *xs: xs, *given)

    def network(*inputs: PyTree) -> PyTree:
        if state is None:
            return apply(params, *inputs)
        return apply(params, state, *inputs)[0]

    if not any_batch:
        return jax.export.export(jax.jit(network), platforms=platforms)(*shapes)
    mapped = jax.vmap(lambda *xs: _alone(network, xs))
    _check_independent(network, mapped, shapes)
    (size,) = jax.export.symbolic_shape("batch")
    batch = _of_size(shapes, size)
    return jax.export.export(jax.jit(mapped), platforms=platforms)(*batch)


def _alone(network: Any, example: tuple[PyTree, ...]) -> PyTree:
    """The network's output on a batch of one."""
    out = network(*jax.tree.map(lambda x: x[None], example))
    for name, leaf in jax.tree_util.tree_leaves_with_path(out):
        if leaf.ndim == 0 or leaf.shape[0] != 1:
            raise ValueError(
                f"The output{jax.tree_util.keystr(name)} has shape {leaf.shape} for one example, so its first axis is "
                "not the batch. Export with any_batch=False."
            )
    return jax.tree.map(lambda y: y[0], out)


def _of_size(shapes: tuple[PyTree, ...], size: Any) -> tuple[PyTree, ...]:
    """The inputs with another number of examples in front."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        if leaf.ndim == 0:
            raise ValueError(
                f"The input{jax.tree_util.keystr(path)} has no axis for the batch. Export with any_batch=False."
            )
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), shapes)


def _check_independent(network: Any, mapped: Any, shapes: tuple[PyTree, ...]) -> None:
    two = jax.tree.map(example_input, _of_size(shapes, 2))
    together, apart = jax.jit(network)(*two), jax.jit(mapped)(*two)
    for x, y in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
        x, y = (np.asarray(z.astype(jnp.complex64)) for z in (x, y))
        if not np.allclose(x, y, rtol=1e-2, atol=1e-2 * float(np.abs(x).max(initial=0))):
            raise ValueError(
                "The network's output for one example depends on the others of its batch (batch statistics, dropout?). "
                "Export it in evaluation mode, or at the size of the examples with any_batch=False."
            )
