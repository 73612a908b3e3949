"""What a sparse network would cost where every pruned entry is skipped: operations and bits."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from wormjax._paths import leaf_names
from wormjax.dst.analysis._layers import layer_densities
from wormjax.evaluation import leaf_macs


class Flops(NamedTuple):
    """Floating-point operations of one call, two for a multiply-accumulate, as Python integers."""

    dense: int
    sparse: int


def inference_flops(
    apply: Callable[..., Any], params: PyTree, masks: PyTree, *inputs: Any
) -> Flops:
    r"""Count the operations of a forward pass, dense and with every pruned entry skipped.

    .. math:: f_S = 2 \Big( \sum_l \frac{M_l}{N_l}\, \mathrm{kept}_l + M_{rest} \Big)

    with :math:`M_l` the multiply-accumulates that the leaf l takes part in (`wormjax.evaluation.leaf_macs`): each
    of its entries is used :math:`M_l / N_l` times, once for each output position. Leaves that are not masked
    are dense. Multiplications with padding count, biases and normalisations do not, as in the papers.

    This is what the mask says, not what a machine does: wormjax trains with masked dense arrays.

    Args:
      apply: ``apply(params, *inputs)``; it is traced, never run.
      params: its parameters; shapes are read.
      masks: mask tree.
      *inputs: its other arguments, such as one example.

    Returns:
      `Flops` of one call.

    Raises:
      ValueError: masks do not fit, or operations that `wj.evaluation.macs` cannot count.

    Example:
      >>> import jax.numpy as jnp
      >>> params, masks = {"w": jnp.ones((4, 2))}, {"w": jnp.arange(8).reshape(4, 2) < 3}
      >>> inference_flops(lambda p, x: x @ p["w"], params, masks, jnp.ones((1, 4)))
      Flops(dense=16, sparse=6)

    References:
      Evci et al., `Rigging the Lottery <https://arxiv.org/abs/1911.11134>`_, 2020
    """
    found = leaf_macs(apply, params, *inputs)
    kept = layer_densities(masks, params)
    dense, sparse = found.rest, Fraction(found.rest)
    for name, count in zip(leaf_names(params), found.leaves, strict=True):
        dense += count
        sparse += count * kept[name].density if name in kept else count
    return Flops(2 * dense, int(2 * sparse))


def training_flops(flops: Flops, steps: int, dense_gradients: int = 0) -> int:
    r"""Count the operations of training: 3 forward passes a step, sparse wherever the method is.

    .. math:: 3 f_S\, T + (f_D - f_S)\, u

    The backward pass costs two forward passes: the gradient of the activations and that of the weights. At
    the u steps whose gradient is needed at pruned entries too (growth by gradient), the latter is dense. Static
    training and SET need none, RigL one an update, SNFS one every step (:math:`u = T`), which gives the accounting of
    RigL's appendix. Where the density changes in training, add up the parts.

    Args:
      flops: of a forward pass of one step's batch.
      steps: T, steps of training.
      dense_gradients: u, from 0 to T.

    Returns:
      An exact Python integer.

    Raises:
      ValueError: a number is out of range.

    Example:
      >>> training_flops(Flops(dense=1000, sparse=100), steps=100, dense_gradients=1)
      30900
    """
    if steps < 0 or not 0 <= dense_gradients <= steps:
        raise ValueError(
            f"dense_gradients must lie between 0 and steps, got {dense_gradients} of {steps} steps."
        )
    return 3 * flops.sparse * steps + (flops.dense - flops.sparse) * dense_gradients


def rigl_step_flops(flops: Flops, every: int) -> Fraction:
    r"""Return RigL's own average cost of a step, :math:`(3 f_S \Delta T + 2 f_S + f_D) / (\Delta T + 1)`.

    Args:
      flops: of a forward pass of one step's batch.
      every: :math:`\Delta T`, steps between updates.

    Example:
      >>> rigl_step_flops(Flops(dense=1000, sparse=100), every=99)
      Fraction(309, 1)
    """
    if every < 1:
        raise ValueError(f"every must be at least one step, got {every}.")
    return Fraction(3 * flops.sparse * every + 2 * flops.sparse + flops.dense, every + 1)


class Bits(NamedTuple):
    """Bits that the parameters take, as Python integers: all of them, or kept entries and a bitmap."""

    dense: int
    sparse: int


def parameter_bits(masks: PyTree, params: PyTree) -> Bits:
    """Count the bits of the parameters stored whole, and stored as kept values with one bit an entry for the mask.

    Args:
      masks: mask tree.
      params: the parameters it masks; shapes and dtypes are read.

    Returns:
      `Bits`.

    Example:
      >>> import jax.numpy as jnp
      >>> parameter_bits({"w": jnp.arange(32) < 4}, {"w": jnp.ones(32)})
      Bits(dense=1024, sparse=160)
    """
    kept = layer_densities(masks, params)
    dense = sparse = 0
    for name, leaf in zip(leaf_names(params), jax.tree.leaves(params), strict=True):
        width = 8 * jnp.result_type(leaf).itemsize
        whole = width * leaf.size
        dense += whole
        sparse += kept[name].kept * width + kept[name].size if name in kept else whole
    return Bits(dense, sparse)
