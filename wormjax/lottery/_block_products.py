"""A convolution or a dot product as one dense product for each block of output channels.

    y[..., rows_g] = conv(x[..., columns_g], w_g)        g over the blocks

The columns are a static gather of input channels (a slice, or nothing, where they are in one piece), the results are
joined, and what no block makes is zero. By element the window is unrolled first (im2col) and columns are gathered of
it. Matrix products may be Pallas's instead of XLA's; convolutions are then unrolled as well.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn
from jaxtyping import Array

from wormjax.lottery._blocks import LayerBlocks
from wormjax.lottery._pallas_product import Kernel, tiled_product
from wormjax.structure._replay import bind
from wormjax.structure._trace import shape_of


def pack(weight: Any, made: LayerBlocks, out: int, into: int) -> tuple[Array, ...]:
    """Cut a weight into one array for each block.

    Args:
      weight: the full weight; what lies outside the blocks is left out.
      made: its blocks.
      out: the axis of output channels.
      into: the axis of input channels.

    Returns:
      By input channels, arrays of the weight's rank; by element, matrices (columns, rows).
    """
    array = np.asarray(weight)
    if made.granularity == "input_channel":
        cut = (np.take(np.take(array, b.rows, out), b.columns, into) for b in made.blocks)
        return tuple(jnp.asarray(x) for x in cut)
    order = (out, into, *(a for a in range(array.ndim) if a not in (out, into)))
    matrix = np.transpose(array, order).reshape(array.shape[out], -1)
    return tuple(jnp.asarray(matrix[np.ix_(b.rows, b.columns)].T) for b in made.blocks)


def product(
    eqn: JaxprEqn,
    side: int,
    x: Array,
    packed: Sequence[Array],
    made: LayerBlocks,
    kernel: Kernel | None = None,
) -> Array:
    """Evaluate a contraction block by block.

    Args:
      eqn: ``conv_general_dilated`` or ``dot_general``.
      side: which operand the weight was.
      x: the other one.
      packed: from `pack`.
      made: the blocks.
      kernel: what runs Pallas; None for the products of XLA.
    """
    is_dot = eqn.primitive.name == "dot_general"
    if is_dot:
        [axis] = eqn.params["dimension_numbers"][0][1 - side]
        rank = len(shape_of(eqn.outvars[0]))
        channels = rank - 1 if side else 0
    else:
        numbers = eqn.params["dimension_numbers"]
        axis, channels = numbers.lhs_spec[1], numbers.out_spec[1]
    by_element = made.granularity == "element" and not is_dot
    if by_element:
        x = patches(eqn, x)
        axis = channels
    parts = []
    for block, weight in zip(made.blocks, packed, strict=True):
        part = gather(x, block.columns, axis)
        if by_element:
            parts.append(_multiplied(eqn, part, axis, weight, channels, kernel))
        elif is_dot and kernel is not None:
            by_rows = made.granularity == "input_channel" and not _rows_last(eqn, side)
            matrix = weight.T if by_rows else weight
            parts.append(_multiplied(eqn, part, axis, matrix, channels, kernel))
        elif is_dot and made.granularity == "element":  # matrices (columns, rows)
            weight = weight if _rows_last(eqn, side) else weight.T
            parts += bind(eqn, (part, weight) if side else (weight, part))
        elif not is_dot and (kernel is not None or is_smaller_than_window(eqn)):
            parts.append(unrolled(eqn, part, weight, kernel))
        else:
            parts += bind(eqn, (part, weight) if side else (weight, part))
    return _in_order(parts, made, channels, eqn)


def _rows_last(eqn: JaxprEqn, side: int) -> bool:
    [into] = eqn.params["dimension_numbers"][0][side]
    return into == 0


def gather(x: Array, columns: np.ndarray, axis: int) -> Array:
    """Take channels: all of them, a slice, or a static gather."""
    first, last = int(columns[0]), int(columns[-1])
    if np.array_equal(columns, np.arange(first, last + 1)):
        whole = len(columns) == x.shape[axis]
        return x if whole else lax.slice_in_dim(x, first, last + 1, axis=axis)
    return jnp.take(x, columns, axis=axis, mode="clip", unique_indices=True)


def _in_order(parts: list[Array], made: LayerBlocks, channels: int, eqn: JaxprEqn) -> Array:
    """Join the blocks' results and bring the channels into the order of the layer."""
    rows = np.concatenate([b.rows for b in made.blocks])
    missing = np.setdiff1d(np.arange(made.shape[0]), rows)
    if len(missing):
        shape = list(parts[0].shape)
        shape[channels] = len(missing)
        parts = [*parts, jnp.zeros(shape, parts[0].dtype)]
    joined = jnp.concatenate(parts, axis=channels) if len(parts) > 1 else parts[0]
    order = np.argsort(np.concatenate([rows, missing]), kind="stable")
    return gather(joined, order, channels)


def is_smaller_than_window(eqn: JaxprEqn) -> bool:
    """Whether a convolution's image is smaller than its window.

    XLA:CPU turns such convolutions over, image for kernel, and is over 100 times too slow at it.
    """
    numbers = eqn.params["dimension_numbers"]
    image, kernel = (shape_of(v) for v in eqn.invars)
    sizes = zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], strict=True)
    return any(image[i] < kernel[k] for i, k in sizes)


def patches(eqn: JaxprEqn, x: Array) -> Array:
    """Return the windows of an image, channel-major, in the place of the result's channels."""
    numbers = eqn.params["dimension_numbers"]
    kernel = shape_of(eqn.invars[1])
    return lax.conv_general_dilated_patches(
        x,
        tuple(kernel[a] for a in numbers.rhs_spec[2:]),
        eqn.params["window_strides"],
        eqn.params["padding"],
        lhs_dilation=eqn.params["lhs_dilation"],
        rhs_dilation=eqn.params["rhs_dilation"],
        dimension_numbers=numbers,
        # by default some devices would round what is only copied
        precision=eqn.params["precision"],
    )


def unrolled(eqn: JaxprEqn, x: Array, weight: Array, kernel: Kernel | None = None) -> Array:
    """Evaluate a convolution as im2col and one matrix product; of any widths."""
    numbers = eqn.params["dimension_numbers"]
    out, *within = numbers.rhs_spec
    matrix = jnp.transpose(weight, (*within, out)).reshape(-1, weight.shape[out])
    channels = numbers.out_spec[1]
    return _multiplied(eqn, patches(eqn, x), channels, matrix, channels, kernel)


def _multiplied(
    eqn: JaxprEqn, x: Array, axis: int, matrix: Array, channels: int, kernel: Kernel | None
) -> Array:
    """Contract an axis with a matrix (columns, rows); the rows become the axis ``channels``."""
    dtype, precision = eqn.params["preferred_element_type"], eqn.params["precision"]
    if kernel is None:
        y = lax.dot_general(
            x,
            matrix,
            (((axis,), (0,)), ((), ())),
            precision=precision,
            preferred_element_type=dtype,
        )
    else:
        last = jnp.moveaxis(x, axis, -1)
        flat = last.reshape(-1, last.shape[-1])
        y = tiled_product(flat, matrix, dtype or x.dtype, precision, kernel)
        y = y.reshape(*last.shape[:-1], y.shape[-1])
    return jnp.moveaxis(y, -1, channels)
