"""SynFlow-L2: how much of the network's squared path weight runs through a weight."""

from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from wormjax._selection import check_choice, check_scores
from wormjax.scores._path_mass import (
    NORMALISATIONS,
    Normalisation,
    Paths,
    one_of,
    path_scores,
)
from wormjax.scores._protocol import Rule, is_kernel, lay_out


def synflow_l2(
    params: PyTree,
    batch: PyTree,
    *,
    apply: Callable[[PyTree, Any], Array],
    normalisation: Normalisation = "identity",
    form: Literal["theta2", "ref_theta"] = "theta2",
    masks: PyTree | None = None,
    prunable: Rule = None,
) -> PyTree[Float[Array, "..."]]:
    r"""Score every weight by the sum of squared path values through it; no data are used.

    .. math::
        R = \sum_k h_k(\theta^2), \quad
        h_k = \sum_{p \to k} \prod_{j \in p} \theta_j^2, \qquad
        s_j = \theta_j^2 \, \frac{\partial R}{\partial (\theta_j^2)}

    The model's own program is run on ones, with squared weights, open rectifiers, and without biases and running means;
    see ``wormjax.rectified``. In a plain network the scores of every layer have the sum R. It is what `px` becomes
    where all outputs weigh the same, and its control.

    *Range.* Signals are rescaled by powers of two on their way, which is exact: no depth or width overflows.

    Args:
      params: any pytree of arrays; kernels that are not ranked, such as a dense head, are squared too.
      batch: what ``apply`` takes as its second argument, floating-point arrays whose first axis is the batch; only
        dtypes and shapes are read, the batch cut to 1.
      apply: function of (params, inputs) that returns one array of outputs: a piecewise linear network in evaluation
        mode.
      normalisation: ``"identity"`` leaves it out, as a fresh one is; ``"running"`` keeps its scale, squared, for
        trained networks.
      form: ``"theta2"``; or ``"ref_theta"``, :math:`|\theta_j \, \partial R / \partial (\theta_j^2)|` as PX's released
        code has it: a defect, since that is no sum over paths.
      masks: what is left; None for everything.
      prunable: which leaves are ranked: a tree of bools as `wj.prunable` returns, or a function from ``params`` to
        one. ``None`` ranks the leaves that `magnitude` ranks.

    Returns:
      The tree of ``params``; a ranked leaf is float32 (float64 for a float64 parameter) of its parameter's shape, any
      other leaf is a rank-0 ``inf``. Where true values leave the dtype's range, all are divided by one power of two.
      Under ``jax.jit`` they are NaN where R is 0.

    Raises:
      ValueError: no path is left; the network is not piecewise linear (the message names the primitive and its line);
        an input is not floating; a word is unknown; or ``masks`` or ``prunable`` do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from wormjax import scores
      >>> params = {"v": jnp.array([[1.0, 2.0], [-1.0, 1.0]]), "w": jnp.array([[1.0], [-2.0]])}
      >>> apply = lambda params, x: jnp.maximum(x @ params["v"], 0.0) @ params["w"]
      >>> print(scores.synflow_l2(params, jnp.zeros((8, 2)), apply=apply)["v"])
      [[ 1. 16.]
       [ 1.  4.]]

    References:
      Tanaka et al., `Pruning neural networks without any data by iteratively conserving synaptic flow
      <https://arxiv.org/abs/2006.05467>`_, 2020; Iurada et al., `Finding Lottery Tickets in Vision Models via
      Data-driven Spectral Foresight Pruning <https://arxiv.org/abs/2406.01820>`_, 2024
    """
    check_choice("normalisation", normalisation, NORMALISATIONS)
    check_choice("form", form, ("theta2", "ref_theta"))
    layout = lay_out(params, prunable, is_kernel)
    if not layout.ranked:  # an empty part of a tree: its output may not even be defined
        return layout.scores({})
    paths, ones = Paths(layout, apply, masks, normalisation), one_of(batch)
    flow, slopes = paths.flow(paths.network(ones), ones)
    times = (
        paths.squares() if form == "theta2" else {i: jnp.abs(w) for i, w in paths.weights.items()}
    )
    tree = path_scores(layout, flow, slopes, times)
    check_scores(tree)
    return tree
