"""What primitives share that hand a jaxpr to JAX: loops, branches, blocks, functions with their own derivative.

    f(x) -> y        becomes        f(x, g) -> (y, h)        g and h: what the removed entries of x and of y hold

JAX calls such a function with arrays. So whatever is known of removed entries crosses beside its value: a number
known while tracing in the value's *form*, an array as one more argument or result. As an argument a ghost is
differentiated, batched and carried from step to step like everything else.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import JaxprEqn, jaxpr_as_fun

from wormjax.structure._replay import Replay, Uniform, Value
from wormjax.structure._trace import Axes, Scope
from wormjax.structure.rules._passing import is_pruned, spread

# For each pruned axis whose removed entries are known: their number, or None where an array crosses beside the value.
Form = Mapping[int, Uniform | None]


class Body(NamedTuple):
    """A jaxpr replayed once, abstractly.

    Attributes:
      call: from packed operands to packed results.
      forms: what is known of the results' removed entries.
      results: the packed results, abstract.
    """

    call: Callable[..., list[Any]]
    forms: list[Form]
    results: list[jax.ShapeDtypeStruct]


def is_cut(run: Replay, eqn: JaxprEqn) -> bool:
    """Whether any axis of the equation's operands or results loses something."""
    operands, results = run.axes_of(eqn)
    return any(is_pruned(run, axes) for axes in (*operands, *results))


def pack(
    run: Replay, values: Sequence[Value], axes: Sequence[Axes]
) -> tuple[list[Any], list[Form]]:
    """Return values as arrays, each followed by its ghosts that are arrays, and their forms."""
    arrays: list[Any] = []
    forms: list[Form] = []
    for value, dims in zip(values, axes, strict=True):
        arrays.append(value.array)
        form: dict[int, Uniform | None] = {}
        for axis in (k for k, dim in enumerate(dims) if run.is_pruned(dim)):
            ghost = value.ghost(axis)
            if ghost is None:
                continue
            form[axis] = ghost if isinstance(ghost, Uniform) else None
            if form[axis] is None:
                arrays.append(ghost)
        forms.append(form)
    return arrays, forms


def unpack(arrays: Sequence[Any], forms: Sequence[Form]) -> list[Value]:
    """Return the values that were packed."""
    return [
        Value(array, _ghosts(form, beside).get)
        for form, (array, *beside) in zip(forms, chunks(arrays, forms), strict=True)
    ]


def _ghosts(form: Form, beside: Sequence[Any]) -> dict[int, Any]:
    rest = iter(beside)
    return {axis: next(rest) if known is None else known for axis, known in form.items()}


def chunks(arrays: Sequence[Any], forms: Sequence[Form]) -> Iterator[list[Any]]:
    """Yield the arrays of each value: itself and its ghosts."""
    start = 0
    for form in forms:
        stop = start + 1 + sum(known is None for known in form.values())
        yield list(arrays[start:stop])
        start = stop


def flat(groups: Iterable[Sequence[Any]]) -> list[Any]:
    """Join what `chunks` took apart."""
    return [array for group in groups for array in group]


def shifted(forms: Sequence[Form], by: int) -> list[Form]:
    """Return forms for values that have lost (-1) or gained (+1) a leading axis."""
    return [{axis + by: known for axis, known in form.items()} for form in forms]


def join(*alternatives: Sequence[Form]) -> list[Form]:
    """Return what holds for values that may come from any of several places."""

    def both(a: Form, b: Form) -> Form:
        return {k: a[k] if a[k] == b[k] else None for k in a if k in b}

    return [functools.reduce(both, forms) for forms in zip(*alternatives, strict=True)]


def fit(arrays: Sequence[Any], have: Sequence[Form], want: Sequence[Form]) -> list[Any]:
    """Bring packed values of one form to a form that says less."""
    fitted = []
    for (array, *beside), form, wanted in zip(chunks(arrays, have), have, want, strict=True):
        ghosts = _ghosts(form, beside)
        fitted.append(array)
        fitted += [
            spread(ghosts[axis], array, axis) for axis, known in wanted.items() if known is None
        ]
    return fitted


def like(arrays: Sequence[Any], leading: int = 0) -> list[jax.ShapeDtypeStruct]:
    """Return the arrays' abstract values, without their first ``leading`` axes."""
    avals: list[Any] = [jax.typeof(x) for x in arrays]
    return [jax.ShapeDtypeStruct(a.shape[leading:], a.dtype, weak_type=is_weak(a)) for a in avals]


def is_weak(aval: Any) -> bool:
    """Whether an abstract value has no dtype of its own; keys of random numbers do not say."""
    return getattr(aval, "weak_type", False)


def body(run: Replay, scope: Scope, forms: Sequence[Form], arrays: Sequence[Any]) -> Body:
    """Replay a scope's jaxpr on packed operands, abstractly.

    Args:
      run: the run.
      scope: where the jaxpr was walked.
      forms: forms of the operands.
      arrays: the packed operands, or their abstract values.
    """
    found: list[Form] = []

    def replay(*operands: Any) -> list[Any]:
        results = run.at(scope).closed(scope.jaxpr, unpack(operands, forms))
        packed, found[:] = pack(run, results, scope.results)
        return packed

    closed, results = jax.make_jaxpr(replay, return_shape=True)(*arrays)
    return Body(jaxpr_as_fun(closed), found, results)
