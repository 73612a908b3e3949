"""The empirical neural tangent kernel: exact where it fits, its trace by Hutchinson's estimate beyond."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wormjax._masks import apply_masks

Apply = Callable[[PyTree, Any], Array]


def ntk(
    apply: Apply,
    params: PyTree,
    inputs: Array,
    *,
    masks: PyTree | None = None,
    outputs: Literal["per_logit", "sum"] = "per_logit",
    block: int = 16,
) -> Float[Array, "M M"]:
    r"""Return the empirical neural tangent kernel of a network on a batch.

    .. math::
        \Theta_{(n,k),(m,l)} = \langle \nabla_\theta f_k(x_n), \nabla_\theta f_l(x_m) \rangle

    Only as much of the Jacobian is held as ``block`` examples take, twice: memory is
    :math:`2 \cdot \text{block} \cdot K` parameters. The gradient of a masked network is taken through its masks, so
    that pruned weights add nothing.

    Args:
      apply: function of (params, inputs) that returns ``[N, K]``.
      params: any pytree of arrays; floating-point leaves are differentiated.
      inputs: ``[N, ...]``.
      masks: mask tree; None for the dense network.
      outputs: ``"per_logit"`` for the kernel of all NK outputs, in the order (n, k); ``"sum"`` for the N by N kernel of
        the sum of the logits, which is cheaper and another object.
      block: examples whose gradients are held at once.

    Returns:
      Symmetric, positive semi-definite.

    Raises:
      ValueError: the masks do not fit the parameters; ``block`` is below 1.

    Example:
      >>> import jax.numpy as jnp
      >>> apply = lambda params, x: x @ params
      >>> ntk(apply, jnp.ones((2, 1)), jnp.array([[1.0, 2.0], [0.0, 3.0]]))
      Array([[5., 6.],
             [6., 9.]], dtype=float32)

    References:
      Jacot et al., `Neural Tangent Kernel <https://arxiv.org/abs/1806.07572>`_, 2018
    """
    if block < 1:
        raise ValueError(f"block is {block}. Hold the gradients of at least one example.")
    rows = [inputs[i : i + block] for i in range(0, inputs.shape[0], block)]
    parts: list[list[Any]] = [[None] * len(rows) for _ in rows]
    for a in range(len(rows)):
        left = _jacobian(apply, params, masks, rows[a], outputs)
        for b in range(a, len(rows)):
            right = left if a == b else _jacobian(apply, params, masks, rows[b], outputs)
            parts[a][b] = _gram(left, right)
            parts[b][a] = parts[a][b].T
    return jnp.block(parts)


class Spectrum(NamedTuple):
    """What the eigenvalues of a kernel say.

    Attributes:
      trace: their sum.
      eigenvalues: the largest first.
      condition: the largest over the smallest; infinite where that is not positive.
    """

    trace: float
    eigenvalues: Float[np.ndarray, " M"]
    condition: float

    @property
    def largest(self) -> float:
        """The largest eigenvalue."""
        return float(self.eigenvalues[0])

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue."""
        return float(self.eigenvalues[-1])


def ntk_spectrum(kernel: Array | np.ndarray) -> Spectrum:
    """Return trace, eigenvalues and condition number of a kernel, in float64 on the host.

    Args:
      kernel: from `ntk`.

    Example:
      >>> import numpy as np
      >>> found = ntk_spectrum(np.array([[2.0, 1.0], [1.0, 2.0]]))
      >>> found.trace, found.eigenvalues, found.condition
      (4.0, array([3., 1.]), 3.0)
    """
    host = np.asarray(kernel, np.float64)
    values = np.linalg.eigvalsh(host)[::-1]
    condition = float(values[0] / values[-1]) if values[-1] > 0 else float("inf")
    return Spectrum(float(np.trace(host)), values, condition)


def ntk_trace(
    apply: Apply, params: PyTree, inputs: Array, *, masks: PyTree | None = None
) -> Float[Array, ""]:
    r"""Return the trace of the kernel, :math:`\sum_{n,k} \|\nabla_\theta f_k(x_n)\|^2`, one example after another.

    Args:
      apply: function of (params, inputs) that returns ``[N, K]``.
      params: any pytree of arrays; floating-point leaves are differentiated.
      inputs: ``[N, ...]``.
      masks: mask tree; None for the dense network.

    Example:
      >>> import jax.numpy as jnp
      >>> print(ntk_trace(lambda p, x: x @ p, jnp.ones((2, 1)), jnp.array([[1.0, 2.0], [0.0, 3.0]])))
      14.0
    """
    return _trace(apply, params, masks, inputs)


@functools.partial(jax.jit, static_argnames="apply")
def _trace(apply: Apply, params: PyTree, masks: PyTree, inputs: Array) -> Array:
    def add(total: Array, x: Array) -> tuple[Array, None]:
        slopes = _jacobian(apply, params, masks, x[None], "per_logit")
        return total + sum(jnp.sum(jnp.square(s)) for s in slopes), None

    return lax.scan(add, jnp.zeros((), inputs.dtype), inputs)[0]


class Estimate(NamedTuple):
    """Mean of an estimator over its probes, and the standard error of that mean (NaN for one probe)."""

    mean: float
    error: float


def ntk_trace_estimate(
    apply: Apply,
    params: PyTree,
    inputs: Array,
    key: PRNGKeyArray,
    *,
    probes: int = 32,
    masks: PyTree | None = None,
) -> Estimate:
    r"""Estimate the trace of the kernel by Hutchinson's method, one forward derivative a probe.

    .. math::
        \operatorname{Tr} \Theta = \mathbb{E}_\xi \| J \xi \|^2, \qquad \xi_j = \pm 1

    It is the limit of small perturbations of the loss of NTK-SAP. Memory is that of two forward passes.

    Args:
      apply: function of (params, inputs) that returns ``[N, K]``.
      params: any pytree of arrays; floating-point leaves are differentiated.
      inputs: ``[N, ...]``.
      key: PRNG key, folded with the probe and the leaf.
      probes: how many.
      masks: mask tree; None for the dense network.

    Raises:
      ValueError: fewer than one probe.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> x = jnp.array([[1.0, 0.0], [0.0, 3.0]])
      >>> ntk_trace_estimate(lambda p, x: x @ p, jnp.ones((2, 1)), x, jax.random.key(0), probes=2)
      Estimate(mean=10.0, error=0.0)

    References:
      Hutchinson, `A stochastic estimator of the trace of the influence matrix
      <https://doi.org/10.1080/03610919008812866>`_, 1990
    """
    if probes < 1:
        raise ValueError(f"probes must be at least 1, got {probes}.")
    keys = [jax.random.fold_in(key, p) for p in range(probes)]
    found = [float(_probe(apply, params, masks, inputs, own)) for own in keys]
    error = float(np.std(found, ddof=1) / np.sqrt(probes)) if probes > 1 else float("nan")
    return Estimate(float(np.mean(found)), error)


@functools.partial(jax.jit, static_argnames="apply")
def _probe(apply: Apply, params: PyTree, masks: PyTree, inputs: Array, key: PRNGKeyArray) -> Array:
    moving, network = _through(apply, params, masks)
    signs = [
        jax.random.rademacher(jax.random.fold_in(key, i), x.shape, x.dtype)
        for i, x in enumerate(moving)
    ]
    _, change = jax.jvp(lambda m: network(m, inputs), (moving,), (signs,))
    return jnp.sum(jnp.square(change))


def _through(apply: Apply, params: PyTree, masks: PyTree | None) -> tuple[list[Array], Callable]:
    """Return the floating-point leaves, and the network as a function of them and of inputs."""
    leaves = jax.tree.leaves(params)
    treedef: Any = jax.tree.structure(params)
    moves = [jnp.issubdtype(jnp.result_type(x), jnp.floating) for x in leaves]

    def network(moving: list[Array], inputs: Array) -> Array:
        of = iter(moving)
        whole = treedef.unflatten(
            [next(of) if m else x for x, m in zip(leaves, moves, strict=True)]
        )
        return apply(whole if masks is None else apply_masks(whole, masks), inputs)

    return [jnp.asarray(x) for x, m in zip(leaves, moves, strict=True) if m], network


@functools.partial(jax.jit, static_argnames=("apply", "outputs"))
def _jacobian(apply: Apply, params: PyTree, masks: PyTree, x: Array, outputs: str) -> list[Array]:
    """Return the gradients of all outputs of some examples, ``[n K, ...]`` a leaf."""
    moving, network = _through(apply, params, masks)

    def of_one(x: Array) -> list[Array]:
        def wanted(moving: list[Array]) -> Array:
            logits = jnp.ravel(network(moving, x[None]))
            return jnp.sum(logits)[None] if outputs == "sum" else logits

        return jax.jacrev(wanted)(moving)

    found = jax.vmap(of_one)(x)
    return [s.reshape(s.shape[0] * s.shape[1], *s.shape[2:]) for s in found]


@jax.jit
def _gram(a: list[Array], b: list[Array]) -> Array:
    parts = [
        x.reshape(x.shape[0], -1) @ y.reshape(y.shape[0], -1).T for x, y in zip(a, b, strict=True)
    ]
    return sum(parts[1:], parts[0])
