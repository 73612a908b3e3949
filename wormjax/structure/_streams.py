"""Which groups are residual streams: an addition joins what different layers make.

Every dot product, convolution and look-up begins a *producer*; what is computed from it entry by entry is still its
work. A value that is spread over an axis (a bias, a mean, a position) is nobody's. Where an addition meets two values
of which neither's producers are among the other's, its axes carry a stream: ``x + f(x)``, the gates of a recurrent
cell, a sum of branches; but not ``x + 0.04 x ** 3``.
"""

import math
from collections.abc import Mapping, Sequence

from jax.extend.core import Literal, Var

from wormjax.structure._dims import Dim
from wormjax.structure._scopes import Place, jaxpr_of, places
from wormjax.structure._trace import Scope, Traced, shape_of

Producers = frozenset[int]

_BEGIN = {"dot_general", "conv_general_dilated", "gather"}
_JOIN = {"add", "add_any", "sub"}
_NOBODY: Producers = frozenset()


def streams(traced: Traced) -> set[Dim]:
    """Return the atoms on which an addition joins the work of different producers."""
    return _Streams(traced).found


class _Streams:
    def __init__(self, traced: Traced):
        self.dims = traced.dims
        self.found: set[Dim] = set()
        self._begun = 0
        count = len(traced.params)
        inputs = len(jaxpr_of(traced.scope).invars) - count
        self.run(traced.scope, [_NOBODY] * count + [self._new() for _ in range(inputs)])

    def run(self, scope: Scope, operands: Sequence[Producers]) -> list[Producers]:
        jaxpr = jaxpr_of(scope)
        known: dict[Var, Producers] = dict.fromkeys(jaxpr.constvars, _NOBODY)
        known.update(zip(jaxpr.invars, operands, strict=True))
        for place in places(scope):
            inner = [_of(known, v) for v in place.eqn.invars]
            known.update(zip(place.eqn.outvars, self.step(place, inner), strict=True))
        return [_of(known, v) for v in jaxpr.outvars]

    def step(self, place: Place, inner: Sequence[Producers]) -> Sequence[Producers]:
        eqn, name = place.eqn, place.eqn.primitive.name
        together = frozenset().union(*inner)
        if place.inner:
            # the operands of every inner jaxpr are the last ones of its equation
            runs = [self.run(s, inner[len(inner) - len(jaxpr_of(s).invars) :]) for s in place.inner]
            fitting = [run for run in runs if len(run) == len(eqn.outvars)]
            return [frozenset().union(*each) for each in zip(*fitting, strict=True)] or [together]
        if name in _BEGIN and place.position not in place.scope.lists:
            together = self._new()
        elif name == "broadcast_in_dim":
            spread = math.prod(shape_of(eqn.outvars[0])) > math.prod(shape_of(eqn.invars[0]))
            together = _NOBODY if spread else together
        elif name in _JOIN:
            inner = [
                _NOBODY if shape_of(v) != shape_of(eqn.outvars[0]) else producers
                for v, producers in zip(eqn.invars, inner, strict=True)
            ]
            a, b = inner
            together = a | b
            if not a <= b and not b <= a:
                for dim in place.scope.of(eqn.outvars[0]):
                    self.found.update(self.dims.atoms(dim))
        return [together] * len(eqn.outvars)

    def _new(self) -> Producers:
        self._begun += 1
        return frozenset([self._begun])


def _of(known: Mapping[Var, Producers], variable: Var | Literal) -> Producers:
    return _NOBODY if isinstance(variable, Literal) else known[variable]
