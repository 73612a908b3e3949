"""SynFlow: how much of the network's total path weight runs through a weight."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from wormjax._selection import check_scores
from wormjax._shift import SHIFT_NAMES
from wormjax.scores._protocol import (
    Layout,
    Rule,
    is_kernel,
    last_name,
    lay_out,
    sensitivity,
    widened,
)

_MEAN_NAMES = ("mean", "running_mean", "moving_mean")


def synflow(
    params: PyTree,
    batch: PyTree,
    *,
    apply: Callable[[PyTree, Any], Array],
    prunable: Rule = None,
    biases: Rule = None,
) -> PyTree[Float[Array, "..."]]:
    r"""Score every weight by its synaptic flow; no data are used.

    .. math::
        R = \sum_k f_k(\mathbf{1}; |\theta|), \qquad
        s_j = \left| |\theta_j| \, \frac{\partial R}{\partial |\theta_j|} \right|

    The auxiliary network has the absolute value of every floating-point leaf, normalisation scales
    included, and no shifts: biases, and running means where they are among ``params``, are 0. What
    ``apply`` closes over is used as it is. So with BatchNorm let ``apply`` run in evaluation mode,
    with running means of 0 where the scale alone is wanted; training mode would normalise the
    single input away.

    *Range.* All-ones signals grow with the product of all widths and leave float32 long before the
    scores do. The gradient is therefore started from a power of two near :math:`1/R`, which is
    exact for any network. Where the forward pass itself overflows, the input is a small power of
    two instead of 1. That changes no ranking if the network is positively homogeneous in its input
    (ReLU, pooling, normalisation by fixed statistics, no shifts; residual branches are fine), which
    is verified by Euler's identity :math:`\langle x, \partial R / \partial x \rangle = R`. In
    float32 that reaches :math:`R \approx 2^{230}`, an unnormalised ResNet-50.

    *Deviation.* The authors' code takes the absolute value of the whole state: biases stay, as
    :math:`|b|` (``biases=lambda p: jax.tree.map(lambda _: False, p)`` does that here), and running
    means lose their sign. On a fresh network whose biases are 0 all of this is equal.

    Args:
      params: any pytree of arrays; integers and PRNG keys may be among them.
      batch: what ``apply`` takes as its second argument, floating-point arrays whose first axis is
        the batch. Only dtypes and shapes are read, the batch cut to 1: ``jax.ShapeDtypeStruct``
        will do.
      apply: function of (params, inputs) that returns one array of outputs, in evaluation mode.
      prunable: which leaves are ranked: a tree of bools as `wj.prunable` returns, or a function
        from ``params`` to one. ``None`` ranks the leaves that `magnitude` ranks.
      biases: which of the other leaves are set to 0, in the same forms. ``None`` takes those whose
        last path name is bias, shift, beta, offset, mean, running_mean or moving_mean, and ``b`` of
        rank 1.

    Returns:
      The tree of ``params``; a ranked leaf is float32 (float64 for a float64
      parameter) of its parameter's shape, any other leaf is a
      rank-0 ``inf``. Where the forward pass on ones overflows, all scores are divided by one power
      of two. Under ``jax.jit`` they are NaN where a value would raise. Where no leaf is ranked
      ``apply`` is not called.

    Raises:
      ValueError: R is 0 or overflows; the input had to be reduced but the network is not
        homogeneous; ``batch`` is not floating-point or has no batch axis; ``apply`` returns
        something else than one array; a score is NaN or Inf; or a rule has another structure
        than ``params``.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax import scores
      >>> params = {"v": jnp.array([[1.0, 2.0], [-1.0, 1.0]]), "w": jnp.array([[1.0], [-2.0]])}
      >>> apply = lambda params, x: jnp.maximum(x @ params["v"], 0.0) @ params["w"]
      >>> print(scores.synflow(params, jnp.zeros((8, 2)), apply=apply)["v"])
      [[1. 4.]
       [1. 2.]]

    References:
      Tanaka et al., `Pruning neural networks without any data by iteratively conserving synaptic
      flow <https://arxiv.org/abs/2006.05467>`_, 2020
    """
    layout = lay_out(params, prunable, is_kernel)
    if not layout.ranked:  # an empty part of a tree: its output may not even be defined
        return layout.scores({})
    ones = _ones(batch)
    auxiliary = _auxiliary(layout, params, biases)
    weights = {leaf.index: auxiliary[leaf.index] for leaf in layout.ranked}

    def total(weights: dict[int, Array], scale: Array) -> Array:
        inputs = jax.tree.map(lambda x: x * scale.astype(x.dtype), ones)
        outputs = apply(layout.params(auxiliary | weights), inputs)
        if not isinstance(outputs, jax.Array):
            raise ValueError(
                f"The function apply returned a {type(outputs).__name__}. It must return one "
                "array of outputs (of a View: apply=lambda p, x: view.apply(p, view.state, x)[0])."
            )
        return jnp.sum(widened(outputs))

    flow = _measure(lambda scale: total(weights, scale), ones)

    def scaled(weights: dict[int, Array], scale: Array) -> Array:
        return _scaled_by(total(weights, scale), -flow.exponent)

    gradients, slope = jax.grad(scaled, argnums=(0, 1))(weights, flow.scale)
    homogeneous = _obeys_euler(flow, slope, ones)
    if not isinstance(flow.total, jax.core.Tracer):
        _raise_if_invalid(flow, homogeneous)
    as_defined = flow.scale == 1
    valid = flow.found & (as_defined | homogeneous)
    back = jnp.where(as_defined, flow.exponent, 0)

    def score(weight: Array, gradient: Array) -> Array:
        return jnp.where(valid, _scaled_by(sensitivity(weight, gradient), back), jnp.nan)

    tree = layout.scores({i: score(w, gradients[i]) for i, w in weights.items()})
    check_scores(tree)
    return tree


class _Flow(NamedTuple):
    """R for the input scale that was chosen, and about its binary exponent."""

    total: Float[Array, ""]
    scale: Float[Array, ""]
    exponent: Int[Array, ""]
    found: Bool[Array, ""]


def _measure(total: Callable[[Array], Array], ones: PyTree) -> _Flow:
    """Find the largest of a few input scales whose forward pass neither overflows nor vanishes."""
    dtypes = [x.dtype for x in jax.tree.leaves(ones)]
    smallest = max(int(jnp.finfo(dtype).minexp) for dtype in dtypes)
    wide = jnp.float64 if jnp.float64 in dtypes else jnp.float32
    scales = jnp.asarray([2.0**e for e in (0, smallest // 2, smallest * 7 // 8)], wide)
    totals = jax.vmap(total)(scales)
    good = jnp.isfinite(totals) & (totals != 0)
    pick = jnp.argmax(good)  # the first
    _, exponent = jnp.frexp(jnp.where(good[pick], totals[pick], jnp.ones_like(totals[pick])))
    # stay clear of subnormal numbers: a mean over positions divides the starting gradient further
    return _Flow(totals[pick], scales[pick], jnp.clip(exponent, -100, 100), good[pick])


def _scaled_by(x: Array, exponent: Int[Array, ""]) -> Array:
    """Return ``x * 2**exponent``, exactly: the power is made of its bits (XLA's pow rounds)."""
    bits = (exponent.astype(jnp.int32) + 127) << 23
    return x * jax.lax.bitcast_convert_type(bits, jnp.float32).astype(x.dtype)


def _obeys_euler(flow: _Flow, slope: Array, ones: PyTree) -> Bool[Array, ""]:
    precision = max(float(jnp.finfo(x.dtype).eps) for x in jax.tree.leaves(ones))
    value = _scaled_by(flow.total, -flow.exponent).astype(slope.dtype)
    return jnp.abs(slope * flow.scale - value) <= max(1e-3, 16 * precision) * jnp.abs(value)


def _raise_if_invalid(flow: _Flow, homogeneous: Array) -> None:
    if not flow.found and flow.total == 0:
        raise ValueError(
            "The synaptic flow R is 0, so SynFlow ranks nothing: no path of non-zero weights leads "
            "from the input to the output; look for a head, a scale or a whole layer that is zero."
        )
    if not flow.found:
        raise ValueError(
            "The synaptic flow R overflows even for a very small input; pass parameters and batch "
            "in a dtype of wider range, or leave out what makes apply return NaN or infinity."
        )
    if flow.scale != 1 and not homogeneous:
        raise ValueError(
            "The synaptic flow R overflows for an input of ones, and a smaller input would change "
            "the ranking because the network is not proportional to its input; let apply leave out "
            "shifts (biases, running means), name them with biases=..., or pass parameters and "
            "batch in a dtype of wider range."
        )


def _auxiliary(layout: Layout, params: PyTree, biases: Rule) -> dict[int, Array]:
    """Return |w| for the floating-point leaves, and 0 for those of them that are shifts."""
    shifts = {leaf.index for leaf in lay_out(params, biases, _is_shift).ranked}
    result = {}
    for leaf in layout.leaves:
        if leaf.index in shifts and not leaf.ranked:
            result[leaf.index] = jnp.zeros_like(leaf.value)
        elif jnp.issubdtype(getattr(leaf.value, "dtype", int), jnp.floating):
            result[leaf.index] = jnp.abs(leaf.value)
    return result


def _is_shift(name: str, leaf: Any) -> bool:
    last = last_name(name)
    return last in SHIFT_NAMES + _MEAN_NAMES or (last == "b" and jnp.ndim(leaf) == 1)


def _ones(batch: PyTree) -> PyTree:
    def one(path: Any, x: Any) -> Array:
        name = "batch" + jax.tree_util.keystr(path)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                f"{name} has dtype {x.dtype}, but SynFlow feeds ones to a network of real numbers. "
                "Pass the inputs alone, in the dtype that the model takes (for tokens, let apply "
                "start at the embeddings)."
            )
        if x.ndim == 0:
            raise ValueError(f"{name} is a scalar. Its first axis must be the batch.")
        return jnp.ones((1, *x.shape[1:]), x.dtype)

    if not jax.tree.leaves(batch):
        raise ValueError("The batch holds no array. Pass the inputs of apply, or their shapes.")
    return jax.tree_util.tree_map_with_path(one, batch)
