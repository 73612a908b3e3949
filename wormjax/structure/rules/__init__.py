"""What every known primitive does to the axes of its operands, and at smaller sizes: one family a file."""

from wormjax.structure._replay import Evaluate
from wormjax.structure._trace import Propagate
from wormjax.structure.rules import (
    _bitcast,
    _branches,
    _broadcast,
    _calls,
    _concat,
    _conv,
    _cumulative,
    _custom_jvp,
    _custom_vjp,
    _dot,
    _dynamic_slice,
    _elementwise,
    _gather,
    _iota,
    _loops,
    _pad,
    _placement,
    _random,
    _reduce,
    _reshape,
    _scatter,
    _slice,
    _sort,
    _split,
    _tile,
    _transpose,
    _window,
)

_FAMILIES = (
    _bitcast,
    _branches,
    _broadcast,
    _calls,
    _concat,
    _conv,
    _cumulative,
    _custom_jvp,
    _custom_vjp,
    _dot,
    _dynamic_slice,
    _elementwise,
    _gather,
    _iota,
    _loops,
    _pad,
    _placement,
    _random,
    _reduce,
    _reshape,
    _scatter,
    _slice,
    _sort,
    _split,
    _tile,
    _transpose,
    _window,
)

PROPAGATE: dict[str, Propagate] = {
    k: v for family in _FAMILIES for k, v in family.PROPAGATE.items()
}
EVALUATE: dict[str, Evaluate] = {k: v for family in _FAMILIES for k, v in family.EVALUATE.items()}

__all__ = ["EVALUATE", "PROPAGATE"]
