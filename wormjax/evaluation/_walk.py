"""Sums over everything that a traced function executes.

A jaxpr is a list of equations, some of which hold jaxprs of their own. :func:`of_inner` knows how often
each of those runs, so that a count (:func:`total`) needs to know single primitives only::

    jit, remat, custom_jvp, custom_vjp, ...   once (of a custom rule, the function itself)
    scan                                      ``length`` times
    cond                                      the branch that counts most
    while                                     unknown: ``while_trips`` times, an error without it
    shard_map                                 once on every device of its manual axes

Any other primitive with a jaxpr inside (a reduction's ``add``, a kernel) must have nothing to count
in there, or it is an error: how often it runs is not known here.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Protocol, SupportsInt, TypeVar

from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from wormjax._jaxprs import CALLS, jaxprs, opened


class Cost(SupportsInt, Protocol):
    """What can be summed and multiplied; where one of several counts, the largest as an integer does."""

    def __add__(self, other: Any, /) -> Any: ...
    def __rmul__(self, times: int, /) -> Any: ...


C = TypeVar("C", bound=Cost)


def total(
    jaxpr: Jaxpr | ClosedJaxpr,
    count: Callable[[JaxprEqn], int | None],
    *,
    while_trips: int | None = None,
) -> int:
    """Sum a count over all equations that one call of a jaxpr executes.

    Args:
      jaxpr: what ``jax.make_jaxpr`` returned, or a jaxpr found inside it.
      count: what one execution of an equation counts; ``None`` means "look inside", which is 0 for
        an equation that holds no jaxpr. A number stops there, so a rule may count a call as a whole.
      while_trips: how often the body of each ``while`` runs; its condition runs once more.

    Returns:
      The sum, a Python integer of any size.

    Raises:
      ValueError: something to count lies in a ``while`` and ``while_trips`` is not given, or inside
        a primitive of which it is not known how often it runs its jaxpr.

    Example:
      >>> import jax
      >>> def f(x):
      ...     return jax.lax.scan(lambda c, _: (jax.numpy.sin(c), None), x, length=5)[0]
      >>> is_sin = lambda eqn: 1 if eqn.primitive.name == "sin" else None
      >>> total(jax.make_jaxpr(f)(1.0), is_sin)
      5
    """
    of = functools.partial(total, count=count, while_trips=while_trips)
    return sum(
        of_inner(eqn, of, 0, while_trips=while_trips) if (own := count(eqn)) is None else own
        for eqn in opened(jaxpr).eqns
    )


def of_inner(
    eqn: JaxprEqn,
    of: Callable[[Jaxpr | ClosedJaxpr], C],
    nothing: C,
    *,
    while_trips: int | None = None,
) -> C:
    """Return what one execution of an equation costs by the jaxprs that it holds.

    Args:
      eqn: an equation.
      of: what one execution of a jaxpr costs.
      nothing: the cost of an equation that holds none.
      while_trips: as for `total`.

    Raises:
      ValueError: as for `total`.
    """
    inner = [of(sub) for sub in jaxprs(eqn.params.values())]
    if not any(map(int, inner)):
        return nothing
    name, params = eqn.primitive.name, eqn.params
    whole = sum(inner, start=nothing)
    if name in CALLS:
        return whole
    if name == "scan":
        return params["length"] * whole
    if name == "cond":
        return max(inner, key=int)
    if name == "shard_map":
        return devices(eqn) * whole
    if name != "while":
        raise ValueError(
            f"the primitive {name!r}{_where(eqn)} runs a function with something to count inside, "
            "and how often it runs it is not known: count that function apart."
        )
    if while_trips is None:
        raise ValueError(
            f"a while loop{_where(eqn)} has something to count inside, and a trace does not tell "
            "how often it runs: give while_trips, or write it as a scan or a fori_loop with "
            "constant bounds."
        )
    return while_trips * of(params["body_jaxpr"]) + (while_trips + 1) * of(params["cond_jaxpr"])


def devices(eqn: JaxprEqn) -> int:
    """Return on how many devices a ``shard_map`` runs its function."""
    sizes = eqn.params["mesh"].shape
    return math.prod(sizes[axis] for axis in eqn.params["newly_manual_axes"])


def _where(eqn: JaxprEqn) -> str:
    return f" at {source_info_util.summarize(eqn.source_info)}"
