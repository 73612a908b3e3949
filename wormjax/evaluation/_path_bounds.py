"""How far the paths of a network bound the trace of its tangent kernel."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from wormjax._masks import apply_masks
from wormjax.evaluation._ntk import ntk_trace
from wormjax.rectified import network


class PathBounds(NamedTuple):
    r"""Trace of the tangent kernel in the weights, and two bounds: ``trace <= per_output <= frobenius``.

    Attributes:
      trace: of the kernel.
      per_output: :math:`\sum_{n,k} g_k(x_n) \sum_j \partial h_k / \partial \theta_j^2`,
        what PX spreads over the weights.
      frobenius: :math:`\|J_v^f\|_F^2 \, \|J_\theta^v\|_F^2`.
    """

    trace: float
    per_output: float
    frobenius: float


def path_bounds(
    apply: Callable[[PyTree, Any], Array],
    params: PyTree,
    inputs: Array,
    *,
    masks: PyTree | None = None,
) -> PathBounds:
    r"""Return the trace of the tangent kernel and the bounds that paths give on it.

    Weights are the floating-point leaves of rank 2 or more; the kernel is that of the weights alone. The bounds hold
    for a plain network of rectifiers without biases and normalisation; elsewhere they are numbers to compare.

    Args:
      apply: function of (params, inputs) that returns ``[N, K]``: a piecewise linear network.
      params: any pytree of arrays.
      inputs: ``[N, ...]``.
      masks: mask tree; None for the dense network.

    Returns:
      `PathBounds`, in float64; infinite beyond its range.

    Raises:
      ValueError: the network is not piecewise linear.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> params = [jnp.array([[1.0, 2.0], [-1.0, 1.0]]), jnp.array([[1.0, -1.0], [2.0, 0.5]])]
      >>> apply = lambda params, x: jax.nn.relu(x @ params[0]) @ params[1]
      >>> path_bounds(apply, params, jnp.array([[1.0, 2.0], [2.0, -1.0]]))
      PathBounds(trace=120.5, per_output=397.5, frobenius=795.0)

    References:
      Iurada et al., `Finding Lottery Tickets in Vision Models via Data-driven Spectral Foresight Pruning
      <https://arxiv.org/abs/2406.01820>`_, 2024
    """
    leaves = jax.tree.leaves(params)
    treedef: Any = jax.tree.structure(params)
    places = weight_places(params)
    left = params if masks is None else apply_masks(params, masks)

    def of(weights: list[Array]) -> PyTree:
        chosen = dict(zip(places, weights, strict=True))
        return treedef.unflatten([chosen.get(i, x) for i, x in enumerate(leaves)])

    @jax.jit
    def both(left: PyTree, inputs: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        net = network(apply, left, inputs, places)
        _, gates = net.record(left, inputs)
        ones = mask_weights(of([jnp.ones_like(leaves[i]) for i in places]), masks)
        g = net.paths(ones, jnp.square(inputs), gates=gates)
        one = jnp.ones_like(inputs[:1])
        single = network(apply, left, one, places)
        of_left = jax.tree.leaves(left)

        def h(squares: list[Array]) -> tuple[Array, Array]:
            return single.paths(mask_weights(of(squares), masks), one)

        squares = [jnp.square(of_left[i]) for i in places]
        _, slopes, exponent = _jvp(h, squares)
        return g, (slopes[0], exponent)

    (g, e), (slopes, f) = jax.device_get(both(left, inputs))
    # one factor at a time: both may be far outside of float32
    of_output = _ldexp(
        float((g.astype("float64").sum(axis=0) * slopes.astype("float64")).sum()), e, f
    )
    frobenius = _ldexp(float(g.astype("float64").sum() * slopes.astype("float64").sum()), e, f)
    fixed = dict(enumerate(leaves))

    def of_weights(weights: list[Array], x: Array) -> Array:
        chosen = fixed | dict(zip(places, weights, strict=True))
        return apply(mask_weights(treedef.unflatten([chosen[i] for i in fixed]), masks), x)

    trace = float(ntk_trace(of_weights, [leaves[i] for i in places], inputs))
    return PathBounds(trace, of_output, frobenius)


def weight_places(params: PyTree) -> list[int]:
    """Return the places, in flatten order, of floating-point leaves of rank 2 or more."""
    return [
        i
        for i, x in enumerate(jax.tree.leaves(params))
        if jnp.ndim(x) >= 2 and jnp.issubdtype(jnp.result_type(x), jnp.floating)
    ]


def mask_weights(params: PyTree, masks: PyTree | None) -> PyTree:
    """Return masked parameters; None prunes nothing."""
    return params if masks is None else apply_masks(params, masks)


def _jvp(h: Callable, squares: list[Array]) -> tuple[Array, Array, Array]:
    """Return h, the sum of its derivatives in all squares, and the exponent of both."""
    ones = [jnp.ones_like(s) for s in squares]

    def mantissa(squares: list[Array]) -> tuple[Array, Array]:
        value, exponent = h(squares)
        return value, exponent

    value, slopes, exponent = jax.jvp(mantissa, (squares,), (ones,), has_aux=True)
    return value, slopes, exponent


def _ldexp(x: float, *exponents: Any) -> float:
    try:
        return math.ldexp(x, sum(int(e) for e in exponents))
    except OverflowError:
        return math.inf
