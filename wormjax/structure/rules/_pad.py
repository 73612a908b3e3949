"""Padding.

    out[i] = x[i - low] for low <= i < low + n, else the padding value

The padded axis is the concatenation low + n + high. The two new pieces are free, as the axis of a broadcast is: no
parameter lies on them, so they shrink with what they meet. Cropping (a negative width) and padding between the entries
keep the axis whole.

Example: a shortcut that pads 4 channels by 2 on each side and is added to 8 channels: these are 2 + 4 + 2, and the
middle ones are the shortcut's own.
Jaxpr: ``pad[padding_config] x value``, one (low, high, interior) an axis.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.pad.html
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from wormjax.structure._replay import Evaluate, Ghost, Replay, Value, bind
from wormjax.structure._trace import Axes, Propagate, Walk, shape_of
from wormjax.structure.rules import _passing

Config = list[tuple[int, int, int]]  # low, high, interior


def _config(eqn: JaxprEqn) -> Config:
    return [(int(low), int(high), int(inner)) for low, high, inner in eqn.params["padding_config"]]


def propagate(walk: Walk, eqn: JaxprEqn, operand: Axes, value: Axes) -> Sequence[Axes]:
    """Put a new piece on each side of a padded axis."""
    result = list(walk.fresh(shape_of(eqn.outvars[0])))
    for axis, (dim, (low, high, inner)) in enumerate(zip(operand, _config(eqn), strict=True)):
        if inner or low < 0 or high < 0:
            why = "it is padded between its entries" if inner else "it is cropped"
            walk.fix(eqn, (dim, result[axis]), why)
        else:
            before, after = walk.fresh([low, high])
            result[axis] = walk.dims.concat([before, dim, after])
    return [tuple(result)]


def evaluate(run: Replay, eqn: JaxprEqn, operand: Value, value: Value) -> Sequence[Value]:
    """Pad by what is kept of the new pieces."""
    [[axes, _], [result]] = run.axes_of(eqn)
    full = _config(eqn)
    config = list(full)
    for axis, (low, high, _) in enumerate(full):
        if run.is_pruned(result[axis]):
            kept = run.kept(result[axis])
            config[axis] = (int(kept[:low].sum()), int(kept[kept.size - high :].sum()), 0)
    number = _passing.number_of(value)

    def of_operand(axis: int) -> Ghost:
        """What removed entries of the operand's own axis hold, among the padding of the other axes."""
        found = operand.ghost(axis)
        others = [(0, 0, 0) if k == axis else c for k, c in enumerate(config)]
        if not any(map(any, others)) or _passing.agreed([found, number]) is not None:
            return found
        narrow = _passing.spread(found, operand.array, axis)
        return (
            None
            if narrow is None
            else bind(eqn, [narrow, value.array], padding_config=tuple(others))[0]
        )

    def of_padding(axis: int) -> Ghost:
        small = [1 if k == axis else n for k, n in enumerate(array.shape)]
        return jnp.full(small, value.array, array.dtype) if number is None else number

    def ghost(axis: int) -> Ghost:
        inside = run.is_pruned(axes[axis])
        outside = run.removed(result[axis]) > run.removed(axes[axis])
        if inside and outside:
            return _passing.agreed([of_operand(axis), of_padding(axis)])
        return of_padding(axis) if outside else of_operand(axis)

    [array] = bind(eqn, [operand.array, value.array], padding_config=tuple(config))
    return [Value(array, ghost)]


PROPAGATE: dict[str, Propagate] = {"pad": propagate}
EVALUATE: dict[str, Evaluate] = {"pad": evaluate}
