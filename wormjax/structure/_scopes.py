"""Going over a traced program, whatever is nested in it."""

from collections.abc import Iterator
from typing import NamedTuple

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from wormjax.structure._trace import Scope

_WITH_RULES = {"custom_jvp_call", "custom_vjp_call"}  # their scopes: the function, then its rules


class Place(NamedTuple):
    """An equation and where it stands.

    Attributes:
      eqn: the equation.
      scope: the axes of the jaxpr that it stands in.
      index: its position there.
    """

    eqn: JaxprEqn
    scope: Scope
    index: int

    @property
    def inner(self) -> list[Scope]:
        """The scopes of the jaxprs that it runs forward; derivative rules are left out."""
        scopes = self.scope.inner.get(self.index, [])
        return scopes[:1] if self.eqn.primitive.name in _WITH_RULES else scopes


def jaxpr_of(scope: Scope) -> Jaxpr:
    """Return the jaxpr of a scope without its constants."""
    return scope.jaxpr.jaxpr if isinstance(scope.jaxpr, ClosedJaxpr) else scope.jaxpr


def places(scope: Scope) -> Iterator[Place]:
    """Yield the equations of a scope, those nested in it left out."""
    for index, eqn in enumerate(jaxpr_of(scope).eqns):
        yield Place(eqn, scope, index)


def all_places(scope: Scope) -> Iterator[Place]:
    """Yield the equations of a scope and, behind each, those nested in it."""
    for place in places(scope):
        yield place
        for inner in place.inner:
            yield from all_places(inner)
