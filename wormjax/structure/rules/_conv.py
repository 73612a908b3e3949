"""Convolution.

    out[n, g O + o, p] = sum_{i, q} lhs[n, g I + i, s p + d q] * rhs[g O + o, i, q]        g < G groups

The input's channels are the product (G, I), the kernel's second axis is I, and the output's channels are the product
(G, O) with the same G: G = 1 is the plain convolution, I = 1 the depthwise one. Batch passes. A spatial axis stays
whole, and so does the kernel's, except under a window of 1 with stride 1 and no padding, where it passes.

Example: a (3, 3, 4, 6) HWIO kernel ties its 4 with the input's channels; its 6 are the output's.
Jaxpr: invars (lhs, rhs); params dimension_numbers (lhs_spec (n, c, ...), rhs_spec (o, i, ...), out_spec (n, c, ...)),
window_strides, padding, lhs_dilation (transposed), rhs_dilation, feature_group_count, batch_group_count.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.conv_general_dilated.html
"""

from collections.abc import Sequence

import numpy as np
from jax.extend.core import JaxprEqn

from wormjax.structure._dims import Dim
from wormjax.structure._replay import Evaluate, Ghost, Replay, Value, bind
from wormjax.structure._trace import Axes, Propagate, Walk, shape_of
from wormjax.structure.rules._passing import is_zero, stand_in, zero


def _is_pointwise(eqn: JaxprEqn, k: int) -> bool:
    """Whether spatial axis k is looked at one entry at a time, in order."""
    kernel = shape_of(eqn.invars[1])[eqn.params["dimension_numbers"].rhs_spec[2 + k]]
    return (
        kernel == 1
        and eqn.params["window_strides"][k] == 1
        and tuple(eqn.params["padding"][k]) == (0, 0)
        and eqn.params["lhs_dilation"][k] == 1
    )


def propagate(walk: Walk, eqn: JaxprEqn, lhs: Axes, rhs: Axes) -> Sequence[Axes]:
    """Tie channels with the kernel, group by group; keep spatial axes whole."""
    numbers, groups = eqn.params["dimension_numbers"], eqn.params["feature_group_count"]
    batch, channels, *spatial = (lhs[k] for k in numbers.lhs_spec)
    outputs, inputs, *kernel = (rhs[k] for k in numbers.rhs_spec)
    if eqn.params["batch_group_count"] != 1:
        results = walk.fresh(shape_of(eqn.outvars[0]))
        walk.fix(eqn, (*lhs, *rhs, *results), "it convolves groups of the batch")
        return [results]
    walk.fix(eqn, kernel, "it is a spatial axis of a kernel")
    if groups == 1:
        walk.unify(eqn, (channels,), (inputs,))
    else:
        _tie_groups(walk, eqn, channels, inputs, outputs)
    result = [batch] * len(lhs)
    result[numbers.out_spec[1]] = outputs
    for k, dim in enumerate(spatial):
        axis = numbers.out_spec[2 + k]
        if _is_pointwise(eqn, k):
            result[axis] = dim
            continue
        [result[axis]] = walk.fresh([shape_of(eqn.outvars[0])[axis]])
        walk.fix(eqn, (dim, result[axis]), "a window slides along this axis")
    return [tuple(result)]


def _tie_groups(walk: Walk, eqn: JaxprEqn, channels: Dim, inputs: Dim, outputs: Dim) -> None:
    groups = eqn.params["feature_group_count"]
    why = walk.reason(eqn, "its groups do not fit the structure of its channels")
    into = walk.dims.factor(channels, [groups, channels.size // groups], why)
    out = walk.dims.factor(outputs, [groups, outputs.size // groups], why)
    walk.unify(eqn, tuple(into), (out[0], inputs))


def evaluate(run: Replay, eqn: JaxprEqn, lhs: Value, rhs: Value) -> Sequence[Value]:
    """Convolve what is kept, in as many groups as are left, and add what removed channels contribute."""
    numbers, groups = eqn.params["dimension_numbers"], eqn.params["feature_group_count"]
    [left, right], [_] = run.axes_of(eqn)
    channels, (outputs, inputs) = numbers.lhs_spec[1], numbers.rhs_spec[:2]
    table = run.kept(left[channels]).reshape(groups, -1)
    few = int(table.any(axis=1).sum())
    [result] = bind(eqn, [lhs.array, rhs.array], feature_group_count=few)
    adds = run.is_pruned(right[inputs]) and not (
        is_zero(rhs.ghost(inputs)) or is_zero(lhs.ghost(channels))
    )
    if adds:
        removed = [stand_in(lhs, channels), stand_in(rhs, inputs)]
        if groups > 1 or any(x is None for x in removed):
            raise run.error(
                eqn,
                "it sums over pruned channels whose removed entries are not zero and cannot be derived; "
                "leave the group whole.",
            )
        result += bind(eqn, removed)[0] * np.asarray(run.removed(right[inputs]), result.dtype)

    def ghost(axis: int) -> Ghost:
        role = numbers.out_spec.index(axis)
        if adds:
            return None
        if role != 1:
            along = numbers.lhs_spec[role]
            if is_zero(lhs.ghost(along)):
                return zero(result)
            left_slice, right_slice, count = stand_in(lhs, along), rhs.array, few
        elif is_zero(rhs.ghost(outputs)):
            return zero(result)
        elif groups == 1:
            left_slice, right_slice, count = lhs.array, stand_in(rhs, outputs), 1
        else:
            filters = run.kept(right[outputs]).reshape(groups, -1)
            whole = (filters == table.any(axis=1, keepdims=True)).all()
            if whole and is_zero(lhs.ghost(channels)):
                return zero(result)
            if table.shape[1] != 1 or filters.shape[1] != 1:
                return None
            left_slice, right_slice, count = stand_in(lhs, channels), stand_in(rhs, outputs), 1
        if left_slice is None or right_slice is None:
            return None
        return bind(eqn, [left_slice, right_slice], feature_group_count=count)[0]

    return [Value(result, ghost)]


PROPAGATE: dict[str, Propagate] = {"conv_general_dilated": propagate}
EVALUATE: dict[str, Evaluate] = {"conv_general_dilated": evaluate}
