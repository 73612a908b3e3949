"""Multiply-accumulates of a JAX function, told apart by the parameter that they multiply with."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
from jax.extend.core import Jaxpr, JaxprEqn, Literal
from jaxtyping import PyTree

from wormjax.evaluation._macs import of_equation
from wormjax.evaluation._walk import CALLS, equation_total, jaxprs_of, opened, scanned

# What a value comes from: the example, several parameters or none (below 0), or one parameter (its place).
_DATA, _SEVERAL, _CONSTANT = -1, -2, -3
_Origin: TypeAlias = int


class MacsByLeaf(NamedTuple):
    """What `macs_by_leaf` counts.

    Attributes:
      leaves: tree of ``params``; for each leaf the multiply-accumulates between it and what comes of the inputs.
      rest: all others, such as attention's products of activations.
    """

    leaves: PyTree[int]
    rest: int


def macs_by_leaf(fn: Callable[..., Any], params: PyTree, *args: Any) -> MacsByLeaf:
    r"""Count the multiply-accumulates of one call for each parameter apart, by tracing it.

    A product counts for the one parameter that its weight side comes of, through whatever was made of
    it without looking at the inputs (masked, transposed, normalised, sliced by a scan). Products of two
    activations, and of two parameters, are the rest. Together they are what `macs` counts, padding included.

    Every entry of a leaf that a convolution or a dot multiplies is used equally often, so a network that skips
    pruned entries makes ``kept / size`` of the leaf's count, exactly.

    Args:
      fn: ``fn(params, *args)``. It is traced, never run.
      params: arrays, or ``jax.ShapeDtypeStruct``, in any pytree.
      *args: the other arguments, the same.

    Returns:
      `MacsByLeaf` of Python integers.

    Raises:
      ValueError: as for `macs`.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"a": jnp.ones((3, 5)), "b": jnp.ones((5, 2))}
      >>> net = lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"]
      >>> macs_by_leaf(net, params, jnp.ones((4, 3)))
      MacsByLeaf(leaves={'a': 60, 'b': 40}, rest=0)
    """
    leaves, structure = jax.tree.flatten(params)
    closed = jax.make_jaxpr(fn)(params, *args)
    inputs = len(opened(closed).invars) - len(leaves)
    origins = [*range(len(leaves)), *[_DATA] * inputs]
    counts, _ = _walk(opened(closed), origins)
    by_leaf = [counts.pop(i, 0) for i in range(len(leaves))]
    return MacsByLeaf(jax.tree.unflatten(structure, by_leaf), sum(counts.values()))


def _walk(jaxpr: Jaxpr, origins: Sequence[_Origin]) -> tuple[Counter[int], list[_Origin]]:
    """Return counts by origin of one call, and what its results come from."""
    known: dict[Any, _Origin] = dict(zip(jaxpr.invars, origins, strict=True))

    def origin(variable: Any) -> _Origin:
        return _CONSTANT if isinstance(variable, Literal) else known.get(variable, _CONSTANT)

    counts: Counter[int] = Counter()
    for eqn in jaxpr.eqns:
        found, results = _equation(eqn, [origin(v) for v in eqn.invars])
        counts.update(found)
        known.update(zip(eqn.outvars, results, strict=True))
    return counts, [origin(v) for v in jaxpr.outvars]


def _equation(eqn: JaxprEqn, origins: list[_Origin]) -> tuple[Counter[int], list[_Origin]]:
    results = [_joined(origins)] * len(eqn.outvars)
    own = of_equation(eqn)
    if own is not None:
        weights = [o for o in origins if o >= 0]
        fits = len(weights) == 1 and _DATA in origins
        return Counter({weights[0] if fits else _SEVERAL: own}), results
    inner = [opened(sub) for sub in jaxprs_of(eqn.params.values())]
    if not inner:
        return Counter(), results
    name, params = eqn.primitive.name, eqn.params
    if name in CALLS and len(inner) == 1 and len(inner[0].invars) == len(origins):
        return _walk(inner[0], origins)
    if name == "scan":
        fixed, carried = scanned(eqn)
        turned = [_joined([o, _DATA]) for o in origins[fixed : fixed + carried]]
        counts, _ = _walk(inner[0], [*origins[:fixed], *turned, *origins[fixed + carried :]])
        return Counter({o: params["length"] * n for o, n in counts.items()}), results
    if name == "cond":
        branches = [_walk(branch, origins[1:])[0] for branch in inner]
        return max(branches, key=lambda c: sum(c.values())), results
    # a loop of unknown length, or a primitive of which it is not known how often it runs what it holds
    return Counter({_SEVERAL: equation_total(eqn, of_equation)}), results


def _joined(origins: Sequence[_Origin]) -> _Origin:
    """What a value comes from that is computed from values of these origins."""
    found = set(origins) - {_CONSTANT}
    if _DATA in found:
        return _DATA
    if not found:
        return _CONSTANT
    return found.pop() if len(found) == 1 else _SEVERAL
