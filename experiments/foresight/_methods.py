"""The methods of the comparison, each one compiled once for all densities and seeds.

Scores see one tree, ``{"params": ..., "stats": ...}``: what BatchNorm remembers is an argument then and no constant,
and another seed needs no other program.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

import wormjax as wj
from wormjax.foresight import Method, methods

Apply = Callable[..., tuple[Array, PyTree]]


class Network:
    """The functions that methods score, of trees of parameters and statistics.

    Args:
      apply: of the model's view.
    """

    def __init__(self, apply: Apply):
        self._apply = apply

    def evaluated(self, tree: PyTree, inputs: Array, stats: PyTree | None = None) -> Array:
        """Return logits in evaluation mode."""
        stats = tree["stats"] if stats is None else stats
        return self._apply(tree["params"], stats, inputs, train=False)[0]

    def trained(self, tree: PyTree, inputs: Array) -> Array:
        """Return logits on the statistics of the batch."""
        return self._apply(tree["params"], tree["stats"], inputs, train=True)[0]

    def loss(self, tree: PyTree, batch: tuple[Array, Array]) -> Array:
        """Return the mean cross-entropy in training mode."""
        inputs, labels = batch
        logits = self.trained(tree, inputs)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    def settle(self, tree: PyTree, inputs: Array) -> PyTree:
        """Return the statistics of this batch alone.

        Running statistics move from old to ``m old + (1 - m) batch``. Two passes, from all zeros and from all ones,
        tell both m and the batch's, whatever the momentum.
        """

        def after(start: float) -> PyTree:
            stats = jax.tree.map(
                lambda x: jnp.full_like(x, start) if _floating(x) else x, tree["stats"]
            )
            return self._apply(tree["params"], stats, inputs, train=True)[1]

        def solve(zero: Array, one: Array) -> Array:
            return zero / (1 - (one - zero)) if _floating(zero) else zero

        return jax.tree.map(solve, after(0.0), after(1.0))


def method(name: str, network: Network, *, prunable: PyTree, trained: bool, rounds: int) -> Method:
    """Return a method by its name in the config.

    Args:
      name: one of the config's.
      network: what is scored.
      prunable: tree of bools over parameters and statistics.
      trained: whether the weights are trained, so that the scales of normalisations are kept.
      rounds: of NTK-SAP.
    """
    kind = "running" if trained else "identity"
    evaluated: Any = network.evaluated
    shared: dict[str, Any] = {"prunable": prunable}
    modes = {"px": "paper", "px_ref_head": "ref_head", "px_v2024": "v2024", "px_jan2025": "jan2025"}
    if name in modes:
        return methods.px(
            evaluated,
            mode=modes[name],
            normalisation=kind,
            train_apply=network.trained,
            **shared,
        )
    made: dict[str, Callable[[], Method]] = {
        "random": lambda: methods.random(**shared),
        "magnitude": lambda: methods.magnitude(**shared),
        "snip": lambda: methods.snip(network.loss, **shared),
        "iter_snip": lambda: methods.iter_snip(network.loss, **shared),
        "grasp": lambda: methods.grasp(network.trained, **shared),
        "synflow": lambda: methods.synflow(evaluated, **shared),
        "synflow_l2": lambda: methods.synflow_l2(evaluated, normalisation=kind, **shared),
        "ntk_sap": lambda: methods.ntk_sap(
            evaluated, rounds=rounds, settle=network.settle, **shared
        ),
        "px_gated": lambda: methods.px_gated(evaluated, normalisation=kind, **shared),
        "px_exact": lambda: methods.px_exact(evaluated, **shared),
    }
    return made[name]()


def prunable_kernels(tree: PyTree, *, dense_head: bool) -> PyTree:
    """Say for each leaf of parameters and statistics whether it is pruned: kernels, and the head's unless told."""
    kernels = wj.dst.kernels(tree["params"])
    if dense_head:
        kernels = kernels | {"head": jax.tree.map(lambda _: False, kernels["head"])}
    return {"params": kernels, "stats": jax.tree.map(lambda _: False, tree["stats"])}


def _floating(x: Array) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.floating))
