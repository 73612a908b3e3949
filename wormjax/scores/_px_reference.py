"""PX as the released code computes it, for comparison: normalisation by batches, a raw head, an early defect."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from wormjax.scores._path_mass import Paths
from wormjax.scores._protocol import Layout, widened


def reference_scores(
    layout: Layout, paths: Paths, training: Paths, batches: Sequence[PyTree], *, first: bool
) -> PyTree:
    """Return the scores of mode ``ref_head``, or of ``v2024``.

    Args:
      layout: of the parameters.
      paths: the network in evaluation mode.
      training: the network in training mode, on the statistics of its batch.
      batches: inputs.
      first: whether the formula is that of the first release.
    """
    head = frozenset() if first else paths.head(batches[0])
    biases = _biases(layout, paths, head)
    chosen = {leaf.index for leaf in layout.ranked}
    squares, weights = paths.squares(), paths.weights
    in_h = squares | {i: weights[i] for i in head}
    in_g = paths.ones() | paths.masked({i: weights[i] for i in head})
    if first:
        in_g = paths.masked(weights)
    shifts_g = biases if first else {i: jnp.ones_like(b) for i, b in biases.items()}
    shifts_h = {i: jnp.square(b) for i, b in biases.items()}
    total = {i: jnp.zeros_like(widened(weights[i])) for i in chosen}
    for batch in batches:
        net = training.network(batch)
        gating = net if first else paths.network(batch)
        _, gates = gating.record(paths.params(paths.masked(weights)), batch)
        seen = batch if first else jax.tree.map(jnp.square, batch)
        g = lax.stop_gradient(net.literal(paths.params(in_g | shifts_g), seen, gates))
        shown = batch if first else jax.tree.map(jnp.ones_like, batch)

        def objective(ranked: dict[int, Array], net=net, shown=shown, g=g) -> Array:
            left = paths.masked(in_h | ranked)
            h = net.literal(paths.params(left | shifts_h), shown, None)
            return jnp.sum(widened(g) * widened(h))

        slopes = jax.grad(objective)({i: in_h[i] for i in chosen})
        total = {i: total[i] + widened(s) for i, s in slopes.items()}
    power = 5 if first else 2
    return layout.scores(
        {i: jnp.abs(t) * jnp.abs(widened(weights[i])) ** power for i, t in total.items()}
    )


def _biases(layout: Layout, paths: Paths, head: frozenset[int]) -> dict[int, Array]:
    """Return the shifts that stand beside a kernel: neither those of a normalisation nor the head's."""
    parents = {leaf.index: leaf.name.rpartition("/")[0] for leaf in layout.leaves}
    of_kernels = {parents[i] for i in paths.weights} - {parents[i] for i in head}
    return {
        leaf.index: jnp.asarray(leaf.value)
        for leaf in layout.leaves
        if leaf.index not in paths.weights
        and parents[leaf.index] in of_kernels
        and jnp.issubdtype(getattr(leaf.value, "dtype", jnp.int32), jnp.floating)
    }
