"""PX: how much of the upper bound on the trace of the neural tangent kernel runs through a weight."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from wormjax._selection import check_choice, check_scores
from wormjax.rectified import Scaled, scaled_sum
from wormjax.scores._batches import check_batches
from wormjax.scores._path_mass import (
    NORMALISATIONS,
    Normalisation,
    Paths,
    one_of,
    path_scores,
)
from wormjax.scores._protocol import Layout, Rule, is_kernel, lay_out, widened
from wormjax.scores._px_reference import reference_scores

Mode = Literal["paper", "ref_head", "v2024", "jan2025"]
MODES = ("paper", "ref_head", "v2024", "jan2025")


def px(
    params: PyTree,
    batches: Sequence[PyTree],
    *,
    apply: Callable[[PyTree, Any], Array],
    mode: Mode = "paper",
    normalisation: Normalisation = "identity",
    head: Literal["ones", "raw"] = "ones",
    train_apply: Callable[[PyTree, Any], Array] | None = None,
    masks: PyTree | None = None,
    prunable: Rule = None,
) -> PyTree[Float[Array, "..."]]:
    r"""Score every weight by its share in the path bound on the trace of the neural tangent kernel.

    .. math::
        R = \sum_{n, k} g_k(x_n) \, h_k, \quad
        g_k(x) = \sum_{p \to k} a_p(x) \, x_{s(p)}^2, \quad
        h_k = \sum_{p \to k} \prod_{j \in p} \theta_j^2, \qquad
        s_j = \theta_j^2 \, \frac{\partial R}{\partial (\theta_j^2)}

    Two runs of the model's own program (``wormjax.rectified``) with the rectifiers of the network itself settled: g on
    squared inputs with all weights 1 and the stored gates :math:`a_p`, h on ones with squared weights and open gates.
    The sum of all derivatives bounds the trace. Data enter by one number an output,
    :math:`w_k = \sum_n g_k(x_n)`, so that h takes a single example; with an unpruned head all :math:`w_k` are equal and
    the ranking is that of `synflow_l2`. In a plain network every layer's scores have the sum R.

    *Modes.* ``"paper"`` is the published formula. The released code differs from it and changed four times:

    ============  =============================================================================================
    ``ref_head``  the last one: BatchNorm on the statistics of each batch in g and h, the head as it is in both, gates
                  from evaluation mode, :math:`|\partial R / \partial \theta^2| \, \theta^2`
    ``v2024``     the first: inputs x in g and h, weights :math:`\theta` in g (a fill that filled a copy), training mode
                  throughout, :math:`|\partial R / \partial \theta^2| \, |\theta|^5`
    ``jan2025``   evaluation mode with the squared scale of BatchNorm in h, one gradient a batch,
                  :math:`\sum_b (\partial R_b / \partial \theta^2)^2 \, \theta^2`
    ============  =============================================================================================

    *Range.* In ``paper`` and ``jan2025`` signals are rescaled by powers of two on their way, which is exact; the other
    two run as the released code does, and overflow without BatchNorm: use float64 there.

    *Deviations.* Biases take part only in ``ref_head`` and ``v2024``; there normalisations are told by their place in
    the tree (a node without kernels), not by the letters "bn", which missed those in shortcuts.

    Args:
      params: any pytree of arrays; kernels that are not ranked take part as the others do.
      batches: inputs of ``apply``, each with the batch as its first axis.
      apply: function of (params, inputs) that returns logits ``[N, K]``: a piecewise linear network in evaluation mode.
      mode: the formula.
      normalisation: in ``"paper"``: ``"identity"`` leaves it out, as a fresh one is; ``"running"`` keeps its scale,
        squared in h and 1 in g, for trained networks.
      head: in ``"paper"``: ``"raw"`` leaves the last kernel as it is in g and h, as ``ref_head`` does.
      train_apply: for ``ref_head`` and ``v2024``: the same network in training mode. None takes ``apply``.
      masks: what is left; None for everything.
      prunable: which leaves are ranked: a tree of bools as `wj.prunable` returns, or a function from ``params`` to
        one. ``None`` ranks the leaves that `magnitude` ranks.

    Returns:
      The tree of ``params``; a ranked leaf is float32 (float64 for a float64 parameter) of its parameter's shape, any
      other leaf is a rank-0 ``inf``. Where true values leave the dtype's range, all are divided by one power of two.
      Under ``jax.jit`` they are NaN where R is 0. What is masked scores 0.

    Raises:
      ValueError: there is no batch; no path is left; the network is not piecewise linear (the message names the
        primitive and its line); an input is not floating; a score is NaN or Inf; a word is unknown; or ``masks`` or
        ``prunable`` do not fit.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from wormjax import scores
      >>> params = [jnp.array([[1.0, 2.0], [-1.0, 1.0]]), jnp.array([[1.0, -1.0], [2.0, 0.5]])]
      >>> apply = lambda params, x: jax.nn.relu(x @ params[0]) @ params[1]
      >>> print(scores.px(params, [jnp.array([[1.0, 2.0], [2.0, -1.0]])], apply=apply)[1])
      [[ 30.    30.  ]
       [300.    18.75]]

    References:
      Iurada et al., `Finding Lottery Tickets in Vision Models via Data-driven Spectral Foresight Pruning
      <https://arxiv.org/abs/2406.01820>`_, 2024; Gebhart et al., `A Unified Paths Perspective for Pruning at
      Initialization <https://arxiv.org/abs/2101.10552>`_, 2021
    """
    check_choice("mode", mode, MODES)
    check_choice("normalisation", normalisation, NORMALISATIONS)
    check_choice("head", head, ("ones", "raw"))
    layout = lay_out(params, prunable, is_kernel)
    if not layout.ranked:  # an empty part of a tree: its output may not even be defined
        return layout.scores({})
    batches = check_batches(batches)
    one_of(batches[0])  # raises on inputs that are not floating
    if mode == "paper":
        paths = Paths(layout, apply, masks, normalisation)
        tree = _paper(layout, paths, batches, head)
    elif mode == "jan2025":
        tree = _january(layout, Paths(layout, apply, masks, "running"), batches)
    else:
        paths = Paths(layout, apply, masks, "identity")
        training = Paths(layout, train_apply or apply, masks, "identity")
        tree = reference_scores(layout, paths, training, batches, first=mode == "v2024")
    check_scores(tree)
    return tree


def class_weights(paths: Paths, batch: PyTree, weights: dict[int, Array]) -> Scaled:
    """Return ``w_k`` of one batch, the sum of ``g_k`` over its examples.

    Args:
      paths: the network.
      batch: inputs.
      weights: those of g, ones where one is left.
    """
    net = paths.network(batch)
    _, gates = net.record(paths.params(paths.masked(paths.weights)), batch)
    outputs, exponent = net.paths(
        paths.params(weights), jax.tree.map(jnp.square, batch), gates=gates, matrix=_indicator
    )
    return jnp.sum(widened(outputs), axis=0), exponent


def _paper(layout: Layout, paths: Paths, batches: Sequence[PyTree], head: str) -> PyTree:
    ones, raw = one_of(batches[0]), {}
    if head == "raw":
        raw = {i: paths.weights[i] for i in paths.head(ones)}
    in_g = paths.ones() | paths.masked(raw)
    w, exponent = lax.stop_gradient(scaled_sum([class_weights(paths, b, in_g) for b in batches]))
    values = paths.squares() | raw
    net = paths.network(ones)
    (value, more), slopes = paths.flow(net, ones, class_weights=w, weights=values)
    slopes = {i: jnp.abs(s) for i, s in slopes.items()}
    return path_scores(layout, (value, exponent + more), slopes, paths.squares())


def _january(layout: Layout, paths: Paths, batches: Sequence[PyTree]) -> PyTree:
    ones, in_g = one_of(batches[0]), paths.ones()
    net = paths.network(ones)
    of_batch = [class_weights(paths, batch, in_g) for batch in batches]
    largest = of_batch[0][1]
    for _, e in of_batch[1:]:
        largest = jnp.maximum(largest, e)
    total: dict[int, Array] = {}
    flow = None
    for w, e in of_batch:
        w, _ = scaled_sum([(w, e), (jnp.zeros_like(w), largest)])
        flow, slopes = paths.flow(net, ones, class_weights=lax.stop_gradient(w))
        squares = {i: jnp.square(widened(s)) for i, s in slopes.items()}
        total = {i: total.get(i, jnp.zeros_like(s)) + s for i, s in squares.items()}
    value, exponent = flow  # type: ignore[misc]
    # a square: the exponent counts twice
    return path_scores(layout, (value, 2 * (largest + exponent)), total, paths.squares())


def _indicator(x: Array) -> Array:
    return (x != 0).astype(x.dtype)
