"""The arrays that a function closes over, recognised again by whoever loads a ticket.

A ticket holds parameters and state; what its function captured besides (a frozen embedding, statistics that were not
passed as state) comes from the definition that is brought along. Their hashes are kept, so that a definition that
captures other numbers is an error and not a wrong result.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from wormjax.structure._ticket_error import TicketError


class Captured(NamedTuple):
    """An array that a function captured: its shape, dtype and SHA-256."""

    shape: tuple[int, ...]
    dtype: str
    digest: str


def captured_by(closed: ClosedJaxpr) -> tuple[Captured, ...]:
    """Return what a traced function captured, single numbers left out (they may come from a batch's size)."""
    return tuple(
        Captured(tuple(np.shape(c)), str(c.dtype), hashlib.sha256(_bytes(c)).hexdigest())
        for c in _constants(closed)
        if np.size(c) > 1 and not isinstance(c, jax.core.Tracer)
    )


def check_captured(saved: Sequence[Captured], closed: ClosedJaxpr) -> None:
    """Raise where a function captured other numbers than the one that a ticket was made of.

    An array of a shape that was not captured then is let through: some are built for the shape of the input.
    """
    shapes = {(c.shape, c.dtype) for c in saved}
    for found in captured_by(closed):
        if found not in saved and found[:2] in shapes:
            raise TicketError(
                f"The function closes over an array of shape {found.shape} and dtype {found.dtype} that is not the one "
                "that the ticket was made with, and the ticket does not hold it. Pass such arrays as parameters, or "
                "as state= to find_groups and shrink."
            )


def _constants(closed: ClosedJaxpr) -> Iterator[Any]:
    yield from closed.consts
    yield from _inner(closed.jaxpr)


def _inner(jaxpr: Jaxpr) -> Iterator[Any]:
    for eqn in jaxpr.eqns:
        for value in eqn.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                if isinstance(part, ClosedJaxpr):
                    yield from _constants(part)
                elif isinstance(part, Jaxpr):
                    yield from _inner(part)


def _bytes(array: Any) -> bytes:
    host = (
        jax.random.key_data(array)
        if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key)
        else array
    )
    return np.ascontiguousarray(host).tobytes()
