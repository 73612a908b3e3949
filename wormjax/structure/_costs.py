"""Parameters and multiply-accumulates of a traced program at kept sizes, without tracing it again."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from jax.extend.core import JaxprEqn

from wormjax.evaluation._macs import of_equation
from wormjax.structure._dims import Dim, Dims
from wormjax.structure._scopes import places
from wormjax.structure._trace import Scope, Traced

Size = Callable[[Dim], Any]  # what an axis keeps: a number, or an array of alternatives
Work = Literal["dense", "convolution", "depthwise"]


class Contraction(NamedTuple):
    """What multiplies and accumulates: ``repeats * prod(rows) * prod(inner) * prod(outer)`` times.

    Attributes:
      work: a dot product, a convolution, or a convolution in groups.
      repeats: what no pruning changes: the pairs of output positions and kernel taps, the steps of a scan.
      rows: the axes that it is done for, such as batch and tokens.
      inner: the axes that are summed over.
      outer: the axes of the features that come out.
    """

    work: Work
    repeats: int
    rows: tuple[Dim, ...]
    inner: tuple[Dim, ...]
    outer: tuple[Dim, ...]

    @property
    def dims(self) -> tuple[Dim, ...]:
        """All of its axes."""
        return (*self.rows, *self.inner, *self.outer)

    def macs(self, size: Size) -> Any:
        """Return its multiply-accumulates at the sizes that are kept."""
        return self.repeats * math.prod(map(size, self.dims))


def whole(dim: Dim) -> int:
    """The size of an axis before anything goes."""
    return dim.size


def kept_sizes(dims: Dims, counts: Mapping[Dim, Any]) -> Size:
    """Return what each axis keeps when its atoms keep ``counts`` units; an atom without one is whole.

    Args:
      dims: the union-find of the trace.
      counts: by atom, a number, or an array of alternatives, which every size then is, too.
    """
    known: dict[Dim, Any] = {}

    def size(dim: Dim) -> Any:
        root = dims.find(dim)
        if root not in known:
            if root.kind == "atom":
                known[root] = counts.get(root, root.size)
            elif root.kind == "product":
                known[root] = math.prod(map(size, root.parts))
            else:
                sizes = zip(map(size, root.parts), root.times, strict=True)
                known[root] = sum(count * times for count, times in sizes)
        return known[root]

    return size


def parameter_count(leaves: Iterable[Iterable[Dim]], size: Size) -> Any:
    """Return the entries of several parameters, each given by its axes."""
    return sum(math.prod(map(size, axes)) for axes in leaves)


def mac_count(contractions: Iterable[Contraction], size: Size) -> Any:
    """Return the multiply-accumulates of several contractions; padding counts as entries."""
    return sum(contraction.macs(size) for contraction in contractions)


def contractions(traced: Traced) -> list[Contraction]:
    """Return the dot products and convolutions of a traced program.

    A `scan` counts ``length`` times, a `while` loop once, and of a `cond` the branch that is dearest at full size.
    """
    return list(_of_scope(traced.scope, traced.dims, 1))


def _of_scope(scope: Scope, dims: Dims, repeats: int) -> Iterator[Contraction]:
    for place in places(scope):
        eqn, name = place.eqn, place.eqn.primitive.name
        if name == "dot_general":
            yield _of_dot(eqn, scope, repeats)
        elif name == "conv_general_dilated":
            yield _of_convolution(eqn, scope, dims, repeats)
        else:
            times = repeats * eqn.params.get("length", 1) if name == "scan" else repeats
            found = [list(_of_scope(inner, dims, times)) for inner in place.inner]
            if name == "cond":
                found = [max(found, key=lambda branch: mac_count(branch, whole))]
            yield from (one for inner in found for one in inner)


def _of_dot(eqn: JaxprEqn, scope: Scope, repeats: int) -> Contraction:
    (contracted, right), (_, batch) = eqn.params["dimension_numbers"]
    lhs, rhs = (scope.of(v) for v in eqn.invars)
    return Contraction(
        "dense",
        repeats,
        rows=tuple(d for k, d in enumerate(lhs) if k not in contracted),
        inner=tuple(lhs[k] for k in contracted),
        outer=tuple(d for k, d in enumerate(rhs) if k not in right and k not in batch),
    )


def _of_convolution(eqn: JaxprEqn, scope: Scope, dims: Dims, repeats: int) -> Contraction:
    numbers = eqn.params["dimension_numbers"]
    image, kernel, result = (scope.of(v) for v in (*eqn.invars, *eqn.outvars))
    spatial = [
        (image[i], result[o])
        for i, o in zip(numbers.lhs_spec[2:], numbers.out_spec[2:], strict=True)
    ]
    # a spatial axis that a window slides over stays whole, and its pairs with the taps with it
    rows = (result[numbers.out_spec[0]], *(o for i, o in spatial if dims.same(i, o)))
    inner, outer = (kernel[numbers.rhs_spec[1]],), (result[numbers.out_spec[1]],)
    alone = math.prod(d.size for d in (*rows, *inner, *outer))
    return Contraction(
        "convolution" if eqn.params["feature_group_count"] == 1 else "depthwise",
        repeats * (of_equation(eqn) or 0) // max(alone, 1),
        rows,
        inner,
        outer,
    )
