"""Multiply-accumulates of any JAX function, counted in its jaxpr."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend import source_info_util
from jax.extend.core import JaxprEqn

from wormjax.evaluation._walk import total

# Matrix products whose size the equation does not tell, or which are not worked out here.
_OPAQUE = frozenset(
    {
        "call_exported",
        "dot_product_attention_bwd_wrapper",
        "dot_product_attention_fwd_wrapper",
        "ffi_call",
        "pure_callback",
        "ragged_dot_general",
        "scaled_dot",
        "scaled_matmul_wrapper",
    }
)


def macs(
    fn: Callable[..., Any],
    *args: Any,
    count_padding: bool = True,
    while_trips: int | None = None,
) -> int:
    r"""Count the multiply-accumulates of one call of a function, by tracing it.

    Convolutions and dot products are counted, in whatever they are nested; element-wise work,
    reductions, normalisation and pooling are not:

    .. math::
        \text{conv} = N \, C_{out} \frac{C_{in}}{g} \prod_d n_d, \qquad
        \text{dot} = \prod \text{batch} \cdot \prod \text{free} \cdot \prod \text{contracted},

    where :math:`n_d` is the number of pairs (output position, kernel tap) along the spatial axis d.
    A tap on a hole that ``lhs_dilation`` makes is never counted, so a transposed convolution costs
    what the convolution costs of which it is the gradient; a tap on padding is, as in the papers.

    Of a ``cond`` the dearest branch counts (a batched ``cond`` is a select and counts all of them),
    a ``scan`` counts ``length`` times, a ``shard_map`` on each of its devices. What the compiler
    drops because nobody uses it is counted still.

    Args:
      fn: a function of arrays. It is traced, never run; static arguments go in by
        ``functools.partial``.
      *args: its arguments: arrays, ``jax.ShapeDtypeStruct``, or pytrees of these.
      count_padding: whether a multiplication with padding counts. ``False`` counts as XLA does.
      while_trips: how often a ``while`` loop runs, if one has anything to count.

    Returns:
      The number of multiply-accumulates, an exact Python integer (two floating-point operations
      each).

    Raises:
      ValueError: something runs an unknown number of times (see ``while_trips``), or an operation
        (a custom kernel, a ragged product) does not show what it multiplies.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> x, w = jax.ShapeDtypeStruct((8, 3), "float32"), jax.ShapeDtypeStruct((3, 5), "float32")
      >>> macs(jnp.matmul, x, w)
      120
    """
    count = functools.partial(of_equation, count_padding=count_padding)
    return total(jax.make_jaxpr(fn)(*args), count, while_trips=while_trips)


def of_equation(eqn: JaxprEqn, *, count_padding: bool = True) -> int | None:
    """Count the multiply-accumulates of one equation; None where it is neither convolution nor dot."""
    name = eqn.primitive.name
    if name == "dot_general":
        return _of_dot(eqn)
    if name == "conv_general_dilated":
        return _of_convolution(eqn, count_padding)
    if name in _OPAQUE:
        raise ValueError(
            f"the primitive {name!r} at {source_info_util.summarize(eqn.source_info)} does not show "
            "how many multiply-accumulates it makes: count it by hand, apart from the rest."
        )
    return None


def _of_dot(eqn: JaxprEqn) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    left = _shape(eqn.invars[0])
    return math.prod(_shape(eqn.outvars[0])) * math.prod(left[axis] for axis in contracted)


def _of_convolution(eqn: JaxprEqn, count_padding: bool) -> int:
    left, kernel, out = map(_shape, (*eqn.invars, *eqn.outvars))
    params = eqn.params
    left_spec, kernel_spec, out_spec = params["dimension_numbers"]
    pairs = (
        _pairs(
            size=left[left_spec[2 + axis]],
            taps=kernel[kernel_spec[2 + axis]],
            outputs=out[out_spec[2 + axis]],
            stride=params["window_strides"][axis],
            lhs_dilation=params["lhs_dilation"][axis],
            rhs_dilation=params["rhs_dilation"][axis],
            low=params["padding"][axis][0],
            count_padding=count_padding,
        )
        for axis in range(len(out) - 2)
    )
    # kernel_spec[1] is the input width of one feature group, and with batch groups each output
    # channel meets one group of the batch, which is what the output's batch axis counts
    return out[out_spec[0]] * out[out_spec[1]] * kernel[kernel_spec[1]] * math.prod(pairs)


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


@functools.lru_cache(maxsize=4096)
def _pairs(
    *,
    size: int,
    taps: int,
    outputs: int,
    stride: int,
    lhs_dilation: int,
    rhs_dilation: int,
    low: int,
    count_padding: bool,
) -> int:
    """Count the pairs (output position, kernel tap) that are a multiplication, along one axis."""
    if lhs_dilation == 1 and count_padding:
        return outputs * taps
    place = np.arange(outputs)[:, None] * stride + np.arange(taps) * rhs_dilation - low
    counts = place % lhs_dilation == 0
    if not count_padding:
        counts &= (place >= 0) & (place <= (size - 1) * lhs_dilation)
    return int(np.count_nonzero(counts))
