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
      position: where in it.
    """

    eqn: JaxprEqn
    scope: Scope
    position: int

    @property
    def inner(self) -> list[Scope]:
        """The scopes of the jaxprs that it runs forward; derivative rules are left out."""
        scopes = self.scope.inner.get(self.position, [])
        return scopes[:1] if self.eqn.primitive.name in _WITH_RULES else scopes


def jaxpr_of(scope: Scope) -> Jaxpr:
    """Return the jaxpr of a scope without its constants."""
    return scope.jaxpr.jaxpr if isinstance(scope.jaxpr, ClosedJaxpr) else scope.jaxpr


def places(scope: Scope) -> Iterator[Place]:
    """Yield the equations of a scope; `Place.inner` leads to those nested in them."""
    for position, eqn in enumerate(jaxpr_of(scope).eqns):
        yield Place(eqn, scope, position)


def scopes(scope: Scope) -> Iterator[Scope]:
    """Yield a scope and all that are nested in it, each once: a derivative rule may lead back to its function."""
    waiting, seen = [scope], {id(scope)}
    while waiting:
        yield (present := waiting.pop())
        for inner in (s for several in present.inner.values() for s in several):
            if id(inner) not in seen:
                seen.add(id(inner))
                waiting.append(inner)
