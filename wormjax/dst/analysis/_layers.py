"""What masks leave of each layer: entries, units without inputs, units that nothing reads."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from wormjax._masks import check_masks
from wormjax._paths import leaf_names
from wormjax._prunable import Rule, prunable


class LayerDensity(NamedTuple):
    """Kept and all entries of a leaf, as Python integers, and their exact ratio."""

    kept: int
    size: int
    density: Fraction


def layer_densities(masks: PyTree, params: PyTree) -> dict[str, LayerDensity]:
    """Return how many entries of each prunable leaf are kept, on the host.

    Args:
      masks: mask tree.
      params: the parameters it masks; shapes are read.

    Returns:
      By path, `LayerDensity`, in entries of the parameters (a channel mask counts whole channels).

    Raises:
      ValueError: structures or shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> layer_densities({"w": jnp.array([[True, False]])}, {"w": jnp.ones((3, 2))})
      {'w': LayerDensity(kept=3, size=6, density=Fraction(1, 2))}
    """
    check_masks(params, masks)
    shapes = [tuple(jnp.shape(p)) for p in jax.tree.leaves(params)]
    found = {}
    for name, shape, mask in zip(
        leaf_names(params), shapes, jax.device_get(jax.tree.leaves(masks)), strict=True
    ):
        if np.ndim(mask) and mask.size:
            size = math.prod(shape)
            kept = int(np.count_nonzero(mask)) * (size // mask.size)
            found[name] = LayerDensity(kept, size, Fraction(kept, size))
    return found


class DeadUnits(NamedTuple):
    """Units of a kernel that masks have cut off.

    Attributes:
      outputs: units, of ``output_units``, that no kept entry leads to: they are constant.
      output_units: the size of the kernel's last axis, times its layers where they are stacked.
      inputs: units, of ``input_units``, that no kept entry reads.
      input_units: the size of the last axis but one, times its layers.
    """

    outputs: int
    output_units: int
    inputs: int
    input_units: int


def dead_units(
    masks: PyTree, params: PyTree, stacked: Rule | Sequence[Rule] = ()
) -> dict[str, DeadUnits]:
    """Count the neurons that masks have cut off from what is before or behind them, on the host.

    Kernels are read in the layout of Flax: inputs on the last axis but one, outputs on the last. (In a depthwise
    kernel the axis of inputs has one unit.)

    Args:
      masks: mask tree.
      params: the parameters it masks; shapes are read.
      stacked: path rules of leaves that stack layers along their first axis.

    Returns:
      By path, `DeadUnits`, for each masked leaf of rank 2 or more.

    Raises:
      ValueError: structures or shapes differ, or a rule fits no leaf.

    Example:
      >>> import jax.numpy as jnp
      >>> masks = {"w": jnp.array([[True, False, True], [False, False, False]])}
      >>> dead_units(masks, {"w": jnp.ones((2, 3))})
      {'w': DeadUnits(outputs=1, output_units=3, inputs=1, input_units=2)}
    """
    check_masks(params, masks)
    stacks = jax.tree.map(lambda _: False, params)
    if isinstance(stacked, str) or callable(stacked) or stacked:
        stacks = prunable(params, include=stacked)
    found = {}
    rows = zip(
        leaf_names(params),
        jax.tree.leaves(params),
        jax.device_get(jax.tree.leaves(masks)),
        jax.tree.leaves(stacks),
        strict=True,
    )
    for name, param, mask, in_stack in rows:
        if np.ndim(mask) < 2:
            continue
        whole = np.broadcast_to(mask, jnp.shape(param))
        lead = int(in_stack and whole.ndim > 2)  # the axis of the layers
        others = tuple(range(lead, whole.ndim - 2))
        out = ~whole.any(axis=(*others, whole.ndim - 2))
        read = ~whole.any(axis=(*others, whole.ndim - 1))
        found[name] = DeadUnits(int(out.sum()), out.size, int(read.sum()), read.size)
    return found
