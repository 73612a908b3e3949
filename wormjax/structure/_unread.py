"""Parts of parameters on which no result depends.

Their removal would change nothing on the example inputs, and so a ranking would take them first: the rows of a table of
positions behind the example's length, a head that is not called. They are no channels, and longer inputs may need them.
"""

from jax.extend.core import Literal, Var

from wormjax.structure._dims import Dim, Reason
from wormjax.structure._scopes import Place
from wormjax.structure._trace import Scope, Traced

UNREAD = Reason("no result depends on it for these inputs")
_TAKING = (
    "slice",
    "dynamic_slice",
)  # what these leave out is not read by them, nor what a list does


def fix_unread(traced: Traced) -> None:
    """Keep every axis of a parameter whole where no result of the traced function depends on it.

    Args:
      traced: a trace; its dims change.
    """
    read = _read(traced, traced.scope)
    for axes in traced.params:
        for dim in axes:
            for atom in traced.dims.atoms(dim):
                if atom not in read:
                    traced.dims.fix(atom, UNREAD)


def _read(traced: Traced, scope: Scope) -> set[Dim]:
    """The atoms that reach a result of a jaxpr, or end inside it where a result depends on them."""
    jaxpr = getattr(scope.jaxpr, "jaxpr", scope.jaxpr)
    needed: dict[Var, set[Dim]] = {}

    def atoms(variable: Var | Literal) -> set[Dim]:
        return {atom for dim in scope.of(variable) for atom in traced.dims.atoms(dim)}

    def need(variable: Var | Literal, found: set[Dim]) -> None:
        if not isinstance(variable, Literal):
            needed.setdefault(variable, set()).update(found)

    for result in jaxpr.outvars:
        need(result, atoms(result))
    for index, eqn in reversed(list(enumerate(jaxpr.eqns))):
        if not eqn.effects and not any(v in needed for v in eqn.outvars):
            continue
        passed = set[Dim]().union(*(needed.get(v, ()) for v in eqn.outvars))
        made = set[Dim]().union(*map(atoms, eqn.outvars))
        inside = [_read(traced, inner) for inner in Place(eqn, scope, index).inner]
        for operand in eqn.invars:
            ending = atoms(operand) - made
            if eqn.primitive.name in _TAKING or index in scope.lists:
                ending.clear()
            elif inside:
                ending &= set[Dim]().union(*inside)
            need(operand, (atoms(operand) & passed) | ending)
    return set[Dim]().union(*needed.values())
