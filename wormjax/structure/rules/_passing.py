"""What primitives share that treat every index of an axis alike.

    out[..., i] = f(x[..., i], y[..., i])        axis i passes through, whatever f does with the others

So the removed entries of such an axis are f of the operands' removed entries: the primitive itself, applied to one
slice that stands for them. Sorting, pooling, gathering rows and scanning all pass their untouched axes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from wormjax.structure._replay import Ghost, Replay, Uniform, Value, bind

# (number of the result, its axis) -> which axis of every operand that is, None where the operand lacks it
Carried = Callable[[int, int], Sequence[int | None]]


def is_zero(ghost: Ghost) -> bool:
    """Whether removed entries are zero, and known to be so while tracing."""
    return isinstance(ghost, Uniform) and not ghost.number.any()


def zero(array: Any) -> Uniform:
    """Return the ghost of removed entries that are zero."""
    return Uniform(np.zeros((), array.dtype))


def spread(ghost: Ghost, array: Any, axis: int) -> Any:
    """Return a ghost as an array of size 1 along ``axis`` and as large as ``array`` elsewhere, or None."""
    if not isinstance(ghost, Uniform):
        return ghost
    shape = [1 if k == axis else n for k, n in enumerate(jnp.shape(array))]
    return jnp.full(shape, ghost.number)


def stand_in(value: Value, axis: int) -> Any:
    """Return the slice that any removed entry along an axis would be, or None where they differ."""
    return spread(value.ghost(axis), value.array, axis)


def one_by_one(value: Value, axis: int, count: int) -> Any:
    """Return all of the ``count`` removed entries along an axis, or None where they are unknown."""
    each = value.each(axis)
    if each is None:
        each = stand_in(value, axis)
    shape = [count if k == axis else n for k, n in enumerate(jnp.shape(value.array))]
    return None if each is None else jnp.broadcast_to(each, shape)


def evaluate(
    eqn: JaxprEqn,
    operands: Sequence[Value],
    carried: Carried,
    *,
    constant: Callable[[int, list[Any]], Any] | None = None,
    narrow: Callable[[int, int], dict[str, Any]] | None = None,
    **changed: Any,
) -> list[Value]:
    """Apply a primitive to what is kept, and, on demand, to what stands for the removed entries.

    Args:
      eqn: the equation.
      operands: its operands at kept sizes.
      carried: for an axis of a result, the same axis of every operand.
      constant: (number of the result, the operands' uniform ghosts) -> the result's uniform ghost, or None.
      narrow: for an axis of a result, the parameters for slices of size 1 along it; ``changed`` when absent.
      changed: the parameters that differ at kept sizes.
    """
    results = bind(eqn, [v.array for v in operands], **changed)

    def ghost_of(which: int) -> Callable[[int], Ghost]:
        def ghost(axis: int) -> Ghost:
            along = carried(which, axis)
            known = [v.ghost(a) for v, a in zip(operands, along, strict=True) if a is not None]
            if constant is not None and known and all(isinstance(g, Uniform) for g in known):
                number = constant(which, [g.number for g in known])  # type: ignore[union-attr]
                if number is not None:
                    return Uniform(np.asarray(number, results[which].dtype))
            slices = [
                v.array if a is None else stand_in(v, a)
                for v, a in zip(operands, along, strict=True)
            ]
            if not known or any(x is None for x in slices):
                return None
            return bind(eqn, slices, **(changed if narrow is None else narrow(which, axis)))[which]

        return ghost

    return [Value(x, ghost_of(k)) for k, x in enumerate(results)]


def unchanged(_: int, numbers: list[Any]) -> Any:
    """The uniform ghost of a primitive that moves entries about: theirs, where they agree."""
    return numbers[0] if all(n == numbers[0] for n in numbers) else None


def agreed(ghosts: Sequence[Ghost]) -> Uniform | None:
    """The one number that all of these removed entries hold, if they do."""
    first = ghosts[0] if ghosts else None
    if not isinstance(first, Uniform):
        return None
    same = all(isinstance(g, Uniform) and np.array_equal(g.number, first.number) for g in ghosts)
    return first if same else None


def number_of(value: Value) -> Uniform | None:
    """A scalar as a ghost: every entry of what repeats it, where it is known while tracing."""
    known = isinstance(value.array, np.generic | np.ndarray | complex | float | int)
    return Uniform(np.asarray(value.array)) if known and np.ndim(value.array) == 0 else None


def beside(ghost: Ghost) -> Ghost:
    """A ghost as seen in the removed entries of another axis: only a number is the same there."""
    return ghost if isinstance(ghost, Uniform) else None


def is_pruned(run: Replay, axes: Sequence[Any]) -> bool:
    """Whether any of these axes loses something."""
    return any(map(run.is_pruned, axes))
