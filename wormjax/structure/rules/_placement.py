"""Primitives that say where an array lies or what it is called, and change nothing of it.

    out_k[i, ...] = x_k[i, ...]        each operand by itself

All axes pass. A sharding constraint whose mesh axes do not divide a kept size leaves that axis unsharded. Where
sharding is explicit, a part of each array's type, the walk has kept the sharded axes whole, and the others pass; a cast
to a mesh whose axes are of other kinds (explicit, automatic) is a barrier.

Example: ``with_sharding_constraint(x, P("data", "model"))`` with 6 channels kept of 8 on 4 devices becomes P("data").
Jaxpr: ``sharding_constraint[sharding=NamedSharding(...) ...] a``; ``optimization_barrier a b`` -> c, d;
``device_put[devices=(None,) ...] a``; ``name[name=hidden] a``; ``reshard[dst_sharding=NamedSharding(...) ...] a``.
Collectives have no rule, so they are barriers.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.with_sharding_constraint.html
"""

from collections.abc import Sequence
from typing import Any

from jax import lax
from jax.extend.core import JaxprEqn
from jax.sharding import NamedSharding, PartitionSpec

from wormjax.structure._replay import Evaluate, Replay, Value, bind
from wormjax.structure._trace import Axes, Propagate, Walk, unknown
from wormjax.structure.rules import _passing

NAMES = ("device_put", "name", "optimization_barrier")


def propagate(walk: Walk, eqn: JaxprEqn, *operands: Axes) -> Sequence[Axes]:
    """Pass everything."""
    return operands


def propagate_reshard(walk: Walk, eqn: JaxprEqn, operand: Axes) -> Sequence[Axes]:
    """Pass everything, unless the array comes under other rules of sharding."""
    before, after = eqn.invars[0].aval.sharding.mesh, eqn.params["dst_sharding"].mesh  # type: ignore[attr-defined]
    if not before.empty and before.axis_types != after.axis_types:
        return unknown(walk, eqn, operand)
    return [operand]


def evaluate(run: Replay, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """Place what is kept; removed entries are what they were."""
    arrays = bind(eqn, [v.array for v in operands])
    return [Value(array, v.ghost) for array, v in zip(arrays, operands, strict=True)]


def evaluate_constraint(run: Replay, eqn: JaxprEqn, operand: Value) -> Sequence[Value]:
    """Shard what is kept, where its size allows."""
    [axes], _ = run.axes_of(eqn)
    if not _passing.is_pruned(run, axes):
        return evaluate(run, eqn, operand)
    array = operand.array
    if isinstance(eqn.params["sharding"], NamedSharding):  # another kind knows full sizes only
        array = lax.with_sharding_constraint(array, _fitted(eqn.params["sharding"], array.shape))
    return [Value(array, operand.ghost)]


def evaluate_reshard(run: Replay, eqn: JaxprEqn, operand: Value) -> Sequence[Value]:
    """Shard what is kept, and what stands for removed entries, which meets it later."""
    return _passing.evaluate(eqn, [operand], lambda _, axis: [axis], constant=_passing.unchanged)


def _fitted(sharding: NamedSharding, shape: Sequence[int]) -> NamedSharding:
    """A sharding without the mesh axes that do not divide a size."""
    entries: list[Any] = []
    for size, entry in zip(shape, sharding.spec, strict=False):
        names = () if entry is None or entry is PartitionSpec.UNCONSTRAINED else entry
        devices = 1
        for name in (names,) if isinstance(names, str) else names:
            devices *= sharding.mesh.shape[name]
        entries.append(None if size % devices else entry)
    return NamedSharding(sharding.mesh, PartitionSpec(*entries))


PROPAGATE: dict[str, Propagate] = {
    **dict.fromkeys((*NAMES, "sharding_constraint"), propagate),
    "reshard": propagate_reshard,
}
EVALUATE: dict[str, Evaluate] = {
    **dict.fromkeys(NAMES, evaluate),
    "sharding_constraint": evaluate_constraint,
    "reshard": evaluate_reshard,
}
