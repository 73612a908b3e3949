"""How active each unit is: the mean size of what the layers behind a group read of it.

The traced program is run on a batch, and wherever a dot product or a convolution sums over a group's axis, the size of
the operand that comes from the inputs is averaged, unit by unit, over everything else: examples, positions, the places
that a unit has on a merged axis. What is computed from parameters alone is not an activation.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Literal, Var
from jaxtyping import Array, PyTree

from wormjax._jaxprs import scanned
from wormjax._masks import check_same_structure
from wormjax.structure._dims import Dim, Dims
from wormjax.structure._groups import Groups, find_groups
from wormjax.structure._replay import bind
from wormjax.structure._scopes import Place, jaxpr_of, places
from wormjax.structure._trace import Scope
from wormjax.structure._unit_scores import UnitScores
from wormjax.structure._units import others, units_along
from wormjax.structure.rules._dot import layout

# For each group the sum of its units' mean activations, and how many readings it is made of.
Tally = dict[str, tuple[Array, Array]]


def activation_scores(
    groups: Groups, params: PyTree, *inputs: PyTree, state: PyTree | None = None
) -> UnitScores:
    r"""Score every unit by its mean absolute activation on a batch.

    .. math:: s_u = \frac{1}{|R|} \sum_{r \in R} \operatorname{mean} |a^{(r)}_u|

    where :math:`R` are the dot products and convolutions that sum over the group's axis, every step of a scan being
    one (in a `jax.lax.while_loop` nothing is read), and :math:`a^{(r)}_u` is what they read on unit u: behind the
    nonlinearity, just before the next layer. Of a residual stream every layer that reads it is counted.

    Args:
      groups: from `find_groups`.
      params: the parameters.
      inputs: a batch; its shapes may be others than those that the groups were found on.
      state: the state, where the groups were found with one.

    Returns:
      For each group that is read, a float64 array with one number a unit; pass it to `plan` in the place of a score
      tree. A group that nothing reads stays whole there.

    Raises:
      ValueError: parameters, state or inputs that do not fit the groups; no group is read; an activation is not
        finite.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from wormjax.structure import activation_scores, find_groups, plan
      >>> params = {"a": jnp.array([[1.0, -3.0, 2.0]]), "b": jnp.ones((3, 1))}
      >>> apply = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
      >>> groups = find_groups(apply, params, jnp.ones((2, 1)))
      >>> active = activation_scores(groups, params, jnp.array([[1.0], [3.0]]))
      >>> active
      {'a:1': array([2., 0., 4.])}
      >>> plan(groups, active, keep=0.5).kept
      {'a:1': array([ True, False,  True])}

    References:
      Molchanov et al., `Pruning Convolutional Neural Networks for Resource Efficient Inference
      <https://arxiv.org/abs/1611.06440>`_, 2017 (its mean activation criterion)
    """
    check_same_structure(groups.shapes, params, "the groups' params", "params")
    here = _on(groups, inputs, state)
    traced = here.traced
    run = _Run(traced.dims, {group.atom: group.name for group in here})

    def tally(consts: list[Any], known: list[Any], batch: list[Any]) -> Tally:
        operands = [*(_Value(x, False) for x in known), *(_Value(x, True) for x in batch)]
        return run.scope(traced.scope, operands, consts)[1]

    known = [*jax.tree.leaves(params), *jax.tree.leaves(state)]
    readings = jax.jit(tally)(traced.closed.consts, known, jax.tree.leaves(inputs))
    found = UnitScores()
    for name, (total, count) in readings.items():
        if count > 0:
            found[name] = np.asarray(total, np.float64) / float(count)
            if not np.isfinite(found[name]).all():
                raise ValueError(f"The activations of the units of {name!r} are not finite.")
    if not found:
        raise ValueError(
            "No dot product or convolution sums over the axis of any group, so no unit has an activation. Score the "
            "parameters instead, for example with wormjax.scores.magnitude."
        )
    return found


def _on(groups: Groups, inputs: Sequence[PyTree], state: PyTree | None) -> Groups:
    """The groups as they are found on a batch's shapes."""
    if (state is None) != (groups.state_shapes is None):
        told = "without a state; pass none" if state is not None else "with a state; pass state="
        raise ValueError(f"The groups were found {told}.")
    shapes: tuple[PyTree, ...] = jax.eval_shape(lambda *xs: xs, *inputs)
    structure: Any = jax.tree.structure(shapes)
    alike = structure == jax.tree.structure(groups.inputs) and all(
        (x.shape, x.dtype) == (y.shape, y.dtype)
        for x, y in zip(jax.tree.leaves(shapes), jax.tree.leaves(groups.inputs), strict=True)
    )
    if alike:
        return groups
    again = find_groups(groups.apply, groups.shapes, *shapes, state=groups.state_shapes)
    for group in groups:
        if [g.slices for g in again if g.name == group.name] != [group.slices]:
            raise ValueError(
                f"On inputs of these shapes the function has no group {group.name!r} as it was found. Find the groups "
                "on inputs like these."
            )
    return again


class _Value(NamedTuple):
    """An array, and whether it depends on the inputs."""

    array: Any
    live: bool


class _Run:
    """One evaluation of a traced program at full size that takes readings."""

    def __init__(self, dims: Dims, names: Mapping[Dim, str]):
        self._dims, self._names = dims, names

    def scope(
        self, scope: Scope, operands: Sequence[_Value], consts: Sequence[Any] = ()
    ) -> tuple[list[_Value], Tally]:
        """Evaluate the jaxpr of a scope and return its results and what was read in it."""
        jaxpr = jaxpr_of(scope)
        held = scope.jaxpr.consts if isinstance(scope.jaxpr, ClosedJaxpr) else ()
        known: dict[Var, _Value] = {
            v: _Value(x, False) for v, x in zip(jaxpr.constvars, consts or held, strict=True)
        }
        known.update(zip(jaxpr.invars, operands, strict=True))

        def read(atom: Var | Literal) -> _Value:
            return _Value(atom.val, False) if isinstance(atom, Literal) else known[atom]

        tally: Tally = {}
        for place in places(scope):
            inner = [read(v) for v in place.eqn.invars]
            step = _STEPS.get(place.eqn.primitive.name, _in_line) if place.inner else _plain
            results, more = step(self, place, inner)
            known.update(zip(place.eqn.outvars, results, strict=True))
            tally = _added(tally, more, self._readings(place, inner))
        return [read(v) for v in jaxpr.outvars], tally

    def complete(self, tally: Tally) -> Tally:
        """Return a tally that speaks of every group."""
        zero = jnp.zeros((), jnp.float32)
        whole = {n: (jnp.zeros(a.size, jnp.float32), zero) for a, n in self._names.items()}
        return whole | tally

    def _readings(self, place: Place, operands: Sequence[_Value]) -> Tally:
        found: Tally = {}
        for position, axis, summed in _summed(place):
            array, live = operands[position]
            if not live or not jnp.issubdtype(array.dtype, jnp.inexact):
                continue
            dim = place.scope.of(place.eqn.invars[position])[axis]
            for atom in dict.fromkeys(self._dims.atoms(summed)):
                if atom in self._names:
                    sizes = jnp.abs(array).astype(jnp.float32)
                    mean = jnp.mean(sizes, axis=others(axis, array.ndim))
                    reading = _by_unit(mean, units_along(self._dims, dim, atom), atom.size)
                    found = _added(found, {self._names[atom]: (reading, jnp.ones((), jnp.float32))})
        return found


def _summed(place: Place) -> Iterator[tuple[int, int, Dim]]:
    """The axes that an equation sums over: the operand, its axis, and the dim that is summed away."""
    eqn, scope = place.eqn, place.scope
    if eqn.primitive.name == "dot_general":
        for side, axes in enumerate(layout(eqn).contracting):
            for axis in axes:
                yield side, axis, scope.of(eqn.invars[side])[axis]
    if eqn.primitive.name == "conv_general_dilated":
        numbers = eqn.params["dimension_numbers"]
        inputs = scope.of(eqn.invars[1])[numbers.rhs_spec[1]]  # a group's share of the channels
        yield 0, numbers.lhs_spec[1], inputs
        yield 1, numbers.rhs_spec[1], inputs


def _by_unit(numbers: Array, table: np.ndarray, size: int) -> Array:
    """Average the numbers of an axis' indices over those of each unit."""
    places = np.bincount(table.ravel(), minlength=size + 1)[:size]
    total = jnp.zeros(size + 1, numbers.dtype)
    for units in table.T:
        total = total.at[units].add(numbers)
    return total[:size] / jnp.asarray(places, numbers.dtype)


def _added(*tallies: Tally) -> Tally:
    total: Tally = {}
    for name, reading in (item for tally in tallies for item in tally.items()):
        before = total.get(name)
        total[name] = reading if before is None else jax.tree.map(jnp.add, before, reading)
    return total


Step = Callable[[_Run, Place, Sequence[_Value]], tuple[Sequence[_Value], Tally]]


def _plain(run: _Run, place: Place, operands: Sequence[_Value]) -> tuple[list[_Value], Tally]:
    live = any(x.live for x in operands)
    return [_Value(y, live) for y in bind(place.eqn, [x.array for x in operands])], {}


def _in_line(run: _Run, place: Place, operands: Sequence[_Value]) -> tuple[list[_Value], Tally]:
    """Calls, and functions with their own derivatives, which are not differentiated here."""
    [scope] = place.inner
    return run.scope(scope, operands)


def _scan(run: _Run, place: Place, operands: Sequence[_Value]) -> tuple[list[_Value], Tally]:
    n, m = scanned(place.eqn)
    [scope] = place.inner
    consts, init, xs = operands[:n], operands[n : n + m], operands[n + m :]

    how = {k: place.eqn.params[k] for k in ("length", "reverse", "unroll")}
    start, rows = [v.array for v in init], [v.array for v in xs]
    live = [v.live for v in init]
    while True:
        out: list[bool] = []

        def one(carry: Sequence[Any], x: Sequence[Any], live=live, out=out) -> Any:
            given = map(_Value, [*carry, *x], [*live, *(v.live for v in xs)])
            results, tally = run.scope(scope, [*consts, *given])
            out[:] = [r.live for r in results]
            return [r.array for r in results[:m]], ([r.array for r in results[m:]], tally)

        carry, (ys, tally) = lax.scan(one, start, rows, **how)
        grown = [a or b for a, b in zip(live, out[:m], strict=True)]
        if grown == live:
            break
        live = grown  # what depends on the inputs after some step does so in every step
    readings = jax.tree.map(lambda x: jnp.sum(x, axis=0), tally)
    return list(map(_Value, [*carry, *ys], [*live, *out[m:]])), readings


def _cond(run: _Run, place: Place, operands: Sequence[_Value]) -> tuple[list[_Value], Tally]:
    index, *inner = operands
    flags: list[list[bool]] = []

    def of(scope: Scope) -> Callable[..., Any]:
        def branch(*arrays: Any) -> Any:
            given = [_Value(x, v.live) for x, v in zip(arrays, inner, strict=True)]
            results, tally = run.scope(scope, given)
            flags.append([r.live or index.live for r in results])
            return [r.array for r in results], run.complete(tally)

        return branch

    arrays, tally = lax.switch(
        index.array, [of(scope) for scope in place.inner], *(v.array for v in inner)
    )
    return [_Value(x, any(live)) for x, *live in zip(arrays, *flags, strict=True)], tally


_STEPS: dict[str, Step] = {"scan": _scan, "cond": _cond, "while": _plain}
