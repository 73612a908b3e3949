"""Multiply-accumulates by the parameter that takes part in them."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr
from jaxtyping import PyTree

from wormjax._jaxprs import opened
from wormjax.evaluation._inlined import Op, Value, before, inlined
from wormjax.evaluation._macs import of_equation
from wormjax.evaluation._walk import of_inner

# what gives a kernel another form before it is multiplied with
_FORMS = frozenset(
    {
        *("broadcast_in_dim", "convert_element_type", "copy", "dynamic_slice", "reshape", "rev"),
        *("slice", "squeeze", "stop_gradient", "transpose"),
    }
)


class LeafMacs(NamedTuple):
    """Multiply-accumulates of one call.

    Attributes:
      leaves: by leaf of the first argument, in flatten order.
      rest: those that no leaf takes part in, such as attention's.
    """

    leaves: tuple[int, ...]
    rest: int


def leaf_macs(
    fn: Callable[..., Any],
    params: PyTree,
    *args: Any,
    while_trips: int | None = None,
) -> LeafMacs:
    """Count the multiply-accumulates of a function by the parameters that they multiply with.

    A leaf takes part where it is an operand of a convolution or a dot product, perhaps reshaped, transposed,
    sliced or cast before. One that is computed on first (normalised, quantised, masked inside) is not
    recognised, and its products are in ``rest``. A product of two leaves counts for the second operand.

    Args:
      fn: ``fn(params, *args)``; traced, never run.
      params: pytree of arrays or ``jax.ShapeDtypeStruct``.
      *args: its other arguments, likewise.
      while_trips: as for `wormjax.evaluation.macs`.

    Returns:
      `LeafMacs`; leaves and rest together are `wormjax.evaluation.macs` of the call.

    Raises:
      ValueError: as `wormjax.evaluation.macs`.

    Example:
      >>> import jax
      >>> x, w = jax.ShapeDtypeStruct((8, 3), "float32"), jax.ShapeDtypeStruct((3, 5), "float32")
      >>> leaf_macs(lambda params, x: x @ params["w"], {"b": w, "w": w}, x)
      LeafMacs(leaves=(0, 120), rest=0)
    """
    count = len(jax.tree.leaves(params))
    jaxpr = jax.make_jaxpr(fn)(params, *args)
    places = [k if k < count else None for k in range(len(opened(jaxpr).invars))]
    found = _of(jaxpr, places, while_trips).by_place
    return LeafMacs(tuple(found[k] for k in range(count)), found[None])


@dataclasses.dataclass(frozen=True)
class _Counts:
    by_place: Counter[int | None] = dataclasses.field(default_factory=Counter)

    def __int__(self) -> int:
        return self.by_place.total()

    def __add__(self, other: "_Counts") -> "_Counts":
        return _Counts(self.by_place + other.by_place)

    def __rmul__(self, times: int) -> "_Counts":
        return _Counts(Counter({place: times * n for place, n in self.by_place.items()}))


def _of(
    jaxpr: Jaxpr | ClosedJaxpr, places: Sequence[int | None], while_trips: int | None
) -> _Counts:
    graph = inlined(jaxpr)
    known = dict(zip(graph.arguments, places, strict=True))

    def place(value: Value) -> int | None:
        return next((known[v] for v in before(value, _FORMS) if known.get(v) is not None), None)

    total = _Counts()
    for op in graph.ops:
        count = of_equation(op.eqn)
        if count is None:
            given = [place(value) for value in op.inputs]

            def of(sub: Jaxpr | ClosedJaxpr, op: Op = op, given: list = given) -> _Counts:
                return _of(sub, _handed(op, given, sub), while_trips)

            total += of_inner(op.eqn, of, _Counts(), while_trips=while_trips)
        else:
            owners = [k for k in map(place, reversed(op.inputs)) if k is not None]
            total += _Counts(Counter({owners[0] if owners else None: count}))
    return total


def _handed(op: Op, given: list[int | None], sub: Jaxpr | ClosedJaxpr) -> list[int | None]:
    """Return what an inner function is given: the last operands, since an index or other constants come first."""
    count, params = len(opened(sub).invars), op.eqn.params
    if op.name == "while" and sub is params["cond_jaxpr"]:
        conditions = params["cond_nconsts"]
        return [*given[:conditions], *given[conditions + params["body_nconsts"] :]]
    return given[-count:] if 0 < count <= len(given) else [None] * count
