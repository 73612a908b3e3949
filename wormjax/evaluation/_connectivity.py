"""What a mask leaves of a network's paths: how many, through which channels, and which layers it empties."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from wormjax._paths import leaf_names
from wormjax.evaluation._path_bounds import mask_weights, weight_places
from wormjax.rectified import network


@dataclasses.dataclass(frozen=True)
class LeafPaths:
    """One weight array under a mask.

    Attributes:
      kept: entries that the mask keeps.
      size: all entries.
      effective: kept entries on some path from an input to an output.
      channels: entries of the last axis, output channels.
      effective_channels: those with an effective entry.
    """

    kept: int
    size: int
    effective: int
    channels: int
    effective_channels: int

    @property
    def density(self) -> float:
        """Fraction that the mask keeps."""
        return self.kept / self.size


@dataclasses.dataclass(frozen=True)
class Connectivity:
    """What `connectivity` returns.

    Attributes:
      leaves: by path name.
      log2_paths: for each output the binary logarithm of its number of paths; minus infinity for none.
      collapsed: whether no path leads from any input to any output.
    """

    leaves: dict[str, LeafPaths]
    log2_paths: Float[np.ndarray, " K"]
    collapsed: bool

    @property
    def emptied(self) -> list[str]:
        """Weight arrays of which nothing is kept; unless `collapsed`, signals go past them through shortcuts."""
        return [name for name, leaf in self.leaves.items() if leaf.kept == 0]


def connectivity(
    apply: Callable[[PyTree, Any], Array],
    params: PyTree,
    inputs: Any,
    *,
    masks: PyTree | None = None,
) -> Connectivity:
    """Count the paths that a mask leaves.

    The network's own program is run on ones with weights 1 where one is kept, open rectifiers and without shifts and
    normalisations; the derivative in a weight counts the paths through it. So an emptied layer beside a shortcut is
    told from a network that has collapsed. Numbers of paths leave every dtype: logarithms are returned. A convolution
    counts a path for every position; a mean over positions divides by their number; of a max pooling one input counts.

    The authors of PX speak of an effective layer width without defining it; ``effective_channels`` is ours.

    Args:
      apply: function of (params, inputs) that returns one array of outputs ``[N, K]``: a piecewise linear network.
      params: any pytree of arrays; weights are the floating-point leaves of rank 2 or more, shapes are read.
      inputs: floating-point arrays, or their shapes, whose first axis is the batch; it is cut to 1.
      masks: mask tree; None for the dense network.

    Returns:
      `Connectivity`.

    Raises:
      ValueError: the network is not piecewise linear, or the masks do not fit.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> params = {"a": jnp.ones((2, 2)), "b": jnp.ones((2, 1))}
      >>> masks = {"a": jnp.array([[True, True], [True, False]]), "b": jnp.array([[True], [False]])}
      >>> found = connectivity(lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"], params, jnp.ones((1, 2)), masks=masks)
      >>> found.log2_paths, found.leaves["a"]
      (array([1.]), LeafPaths(kept=3, size=4, effective=2, channels=2, effective_channels=1))
    """
    places = weight_places(params)
    ones = jax.tree.map(lambda x: jnp.ones((1, *x.shape[1:]), x.dtype), inputs)
    found_on_device = _count(apply, params, masks, ones)
    outputs, exponent, kept, slopes = jax.device_get(found_on_device)
    names = leaf_names(params)
    found = {}
    for i, left, used in zip(places, kept, slopes, strict=True):
        effective = left & used
        along = effective.reshape(-1, effective.shape[-1])
        found[names[i]] = LeafPaths(
            int(left.sum()),
            int(left.size),
            int(effective.sum()),
            along.shape[1],
            int(along.any(axis=0).sum()),
        )
    with np.errstate(divide="ignore"):
        logs = np.log2(np.asarray(outputs, np.float64)) + int(exponent)
    return Connectivity(found, logs, bool((outputs == 0).all()))


@functools.partial(jax.jit, static_argnames="apply")
def _count(
    apply: Callable[[PyTree, Any], Array], params: PyTree, masks: PyTree, ones: PyTree
) -> tuple[Array, Array, list[Array], list[Array]]:
    """Return paths by output with their exponent, and of each weight whether it is kept and on a path."""
    own = jax.tree.leaves(params)
    treedef: Any = jax.tree.structure(params)
    places = weight_places(params)
    net = network(apply, params, ones, places)

    def left(weights: list[Array]) -> PyTree:
        chosen = dict(zip(places, weights, strict=True))
        return mask_weights(treedef.unflatten([chosen.get(i, x) for i, x in enumerate(own)]), masks)

    def total(weights: list[Array]) -> tuple[Array, tuple[Array, Array]]:
        outputs, exponent = net.paths(left(weights), ones)
        return jnp.sum(outputs), (jnp.sum(outputs, axis=0), exponent)

    whole = [jnp.ones_like(own[i]) for i in places]
    slopes, (outputs, exponent) = jax.grad(total, has_aux=True)(whole)
    kept = jax.tree.leaves(left(whole))
    return outputs, exponent, [kept[i] != 0 for i in places], [s != 0 for s in slopes]
