"""A loaded ticket's captured arrays, in place of those that the definition closes over.

The definition is traced once more at the input shapes of the ticket's own trace, so that what it builds for the shape
of an input is not in the way, and what it captures there is matched with what the ticket holds, in trace order.
"""

import dataclasses
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jaxtyping import PyTree

from wormjax.structure._captured import Captured, CapturedWarning, Holding, constants, described
from wormjax.structure._replay import Constant
from wormjax.structure._ticket_error import TicketError

STATE = "Pass such arrays as state= to find_groups and shrink, or as parameters."


@dataclasses.dataclass(frozen=True, eq=False)
class _Known:
    """An array that the definition captures, as it is and as the ticket has it."""

    array: Any
    have: Captured
    want: Captured


class Restored:
    """What a loaded ticket puts in place of captured arrays.

    Args:
      definition: the function that was brought along.
      shapes: its abstract parameters.
      state_shapes: its abstract state, or None.
      holding: what the ticket holds.
    """

    def __init__(
        self,
        definition: Callable[..., Any],
        shapes: PyTree,
        state_shapes: PyTree | None,
        holding: Holding,
    ):
        self._trees = (shapes,) if state_shapes is None else (shapes, state_shapes)
        self._definition = definition
        self._holding = holding
        self._known: list[_Known] | None = None
        self._wholes: dict[Captured, Any] = {}

    def at(self, inputs: tuple[PyTree, ...], closed: ClosedJaxpr) -> Constant | None:
        """Return what gives each constant of a call its value; None where the definition has the same ones.

        Args:
          inputs: abstract inputs of the call; their structure matters, and their shapes do not.
          closed: the call's trace, of the definition or of another function that closes over the same arrays.

        Raises:
          TicketError: the definition captures arrays of other shapes, or another number of them.
        """
        if self._known is None:
            self._known = self._matched(inputs)
            _warn([k for k in self._known if k.have != k.want])
        known = self._known
        if all(k.have == k.want for k in known):
            return None
        arrays = constants(closed)
        in_order = zip(arrays, known, strict=True) if len(arrays) == len(known) else ()
        places = {id(array): k for array, k in in_order}

        def value(array: Any, kept: Sequence[np.ndarray]) -> Any:
            want = self._wanted(array, places.get(id(array)))
            return array if want is None else self._whole(want, kept)

        return value

    def _wanted(self, array: Any, placed: _Known | None) -> Captured | None:
        """Which of the ticket's arrays stands for one of a call; None for itself.

        Args:
          array: of the call.
          placed: what the definition captures at its place in trace order.
        """
        known = self._known or ()
        have = described(array)
        alike = [k for k in known if k.array is array] or [k for k in known if k.have == have]
        if placed in alike:
            alike = [placed]
        wants = {k.want for k in alike}
        if len(wants) == 1:
            return None if have in wants else wants.pop()
        # one that the definition builds for the shape of the input
        is_told = placed is not None and placed.have == placed.want
        if wants or not (is_told or np.size(array) == 1 or not _is_float(array)):
            raise _cannot_tell(array)
        return None

    def _matched(self, inputs: tuple[PyTree, ...]) -> list[_Known]:
        """What the definition captures at the input shapes of the ticket's own trace, and what stands for it."""
        leaves, tree = jax.tree.flatten(inputs)
        if len(leaves) == len(self._holding.inputs):
            leaves = [
                _abstract(*row, x) for row, x in zip(self._holding.inputs, leaves, strict=True)
            ]
        then = jax.tree.unflatten(tree, leaves)
        closed = jax.make_jaxpr(self._definition)(*self._trees, *then)
        arrays, wanted = constants(closed), self._holding.found
        found = [described(x) for x in arrays]
        if Counter(found) == Counter(wanted):  # the same arrays, in whatever order
            wanted = tuple(found)
        for have, want in zip(found, wanted, strict=False):
            if have[:2] != want[:2]:
                raise TicketError(
                    f"The function closes over an array of shape {have.shape} and dtype {have.dtype} where the "
                    f"ticket's closed over one of {want.shape} and {want.dtype}: it is another definition. {STATE}"
                )
            if have != want and want.digest not in self._holding.blocks:
                raise TicketError(
                    f"The function closes over PRNG keys of shape {have.shape} that are not the ticket's, and keys "
                    "that are captured are not saved. Pass them as an input or as state=."
                )
        if len(found) != len(wanted):
            raise TicketError(
                f"The function closes over {len(found)} arrays, and the ticket's closed over {len(wanted)}: it is "
                f"another definition, or one in which an array stands for several. {STATE}"
            )
        known = list(map(_Known, arrays, found, wanted))
        last = {id(k.array): k.want for k in known}
        for k in known:
            if last[id(k.array)] != k.want:
                raise TicketError(
                    f"The function closes over one array of shape {k.have.shape} where the ticket's closed over two "
                    f"different ones. Bring a definition with an array for each. {STATE}"
                )
        return known

    def _whole(self, want: Captured, kept: Sequence[np.ndarray]) -> Any:
        """The ticket's array at full size, of which these entries are used."""
        block = self._holding.blocks[want.digest]
        for axis, indices in block.kept.items():
            if missing := np.setdiff1d(np.flatnonzero(kept[axis]), indices).size:
                raise TicketError(
                    f"This function uses {missing} entries on axis {axis} of a captured array of shape {want.shape} "
                    f"that were removed with the ticket's units. {STATE}"
                )
        if want not in self._wholes:
            self._wholes[want] = block.whole(want.shape)
        return self._wholes[want]


def _warn(changed: Sequence[_Known]) -> None:
    if changed:
        shape, dtype, _ = changed[0].want
        warnings.warn(
            f"The function closes over other values than the ticket was made with, in {len(changed)} arrays (the "
            f"first has shape {shape} and dtype {dtype}); the ticket's are used. {STATE}",
            CapturedWarning,
            stacklevel=4,
        )


def _cannot_tell(array: Any) -> TicketError:
    return TicketError(
        f"For these inputs the function closes over an array of shape {np.shape(array)} and dtype {array.dtype}, and "
        "it cannot be told which of the ticket's stands for it, if any. Bring the definition with the values that "
        f"the ticket was made with. {STATE}"
    )


def _is_float(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jnp.inexact)


def _abstract(shape: tuple[int, ...], dtype: str, given: Any) -> jax.ShapeDtypeStruct:
    try:
        told = jnp.dtype(dtype)
    except TypeError:  # typed PRNG keys
        told = given.dtype
    return jax.ShapeDtypeStruct(shape, told)
