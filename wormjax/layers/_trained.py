"""Scores of the blocks of a trained network, from what they compute."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from wormjax.evaluation import linear_cka
from wormjax.layers._candidates import Candidates
from wormjax.layers._pls import variable_importance
from wormjax.layers._views import penultimate, streams, switched

Activation = Callable[[Array], Array] | None
Batches = Sequence[Any]  # inputs of the shape that the candidates were found on


def hrank(
    found: Candidates,
    params: PyTree,
    batches: Batches,
    state: PyTree | None = None,
    activation: Activation = jax.nn.relu,
) -> dict[str, float]:
    r"""Score every block by the mean rank of its feature maps.

    .. math:: s = \frac{1}{N C} \sum_{n, c} \frac{\operatorname{rank}(a_{nc})}{\max(h, w)}

    Ranks are taken in float64 on the host: in float32 an accelerator's depend on the tolerance.

    Args:
      found: from `candidates`.
      params: the trained parameters.
      batches: inputs, each of the shape that the candidates were found on.
      state: the state, where there is one.
      activation: what the stream goes through before it is looked at; None for nothing.

    Returns:
      For each candidate its score, in [0, 1].

    Raises:
      ValueError: the stream of a block is not of maps ``[N, H, W, C]``.

    References:
      Lin et al., `HRank: Filter Pruning using High-Rank Feature Map <https://arxiv.org/abs/2002.10179>`_, 2020
    """

    def mean_rank(a: np.ndarray) -> float:
        if a.ndim != 4:
            raise ValueError(
                f"hrank looks at maps [N, H, W, C], and the stream has the shape {a.shape}. Use another criterion."
            )
        maps = a.transpose(0, 3, 1, 2)
        return float(np.mean(np.linalg.matrix_rank(maps)) / max(maps.shape[2:]))

    return _mean_over(found, params, batches, state, activation, mean_rank)


def expect_abs(
    found: Candidates,
    params: PyTree,
    batches: Batches,
    state: PyTree | None = None,
    activation: Activation = jax.nn.relu,
) -> dict[str, float]:
    """Score every block by the mean absolute value of the stream behind it.

    Args:
      found: from `candidates`.
      params: the trained parameters.
      batches: inputs, each of the shape that the candidates were found on.
      state: the state, where there is one.
      activation: what the stream goes through before it is looked at; None for nothing.

    Returns:
      For each candidate its score.

    References:
      Tan and Motani, `DropNet: Reducing Neural Network Complexity via Iterative Pruning
      <https://proceedings.mlr.press/v119/tan20a.html>`_, 2020
    """
    return _mean_over(
        found, params, batches, state, activation, lambda a: float(np.mean(np.abs(a)))
    )


def kl(
    found: Candidates,
    params: PyTree,
    batches: Batches,
    state: PyTree | None = None,
    double_softmax: bool = False,
) -> dict[str, float]:
    r"""Score every block by how the output's distribution changes when the block is off.

    .. math:: s = \frac{1}{N} \sum_n \sum_c q_{nc} \, (\log q_{nc} - \log p_{nc})

    with the softmax p of the whole network and q of the network without the block.

    Args:
      found: from `candidates`.
      params: the trained parameters; nothing in them is changed.
      batches: inputs, each of the shape that the candidates were found on.
      state: the state, where there is one.
      double_softmax: the code of the author's other papers takes the softmax of an output that is one already.

    Returns:
      For each candidate its score, not negative.

    Raises:
      ValueError: the output is not one array of logits.

    References:
      Luo and Wu, `Neural Network Pruning with Residual-Connections and Limited-Data
      <https://arxiv.org/abs/1911.08114>`_, 2019
    """
    function = _one_at_a_time(found, switched(found), state)

    def logits(out: Any) -> Array:
        [array] = _leaves(out, "kl")
        return jax.nn.softmax(array, axis=-1) if double_softmax else array

    totals = np.zeros(len(found))
    for inputs in batches:
        whole, off = function(params, state, inputs, len(found)), []
        log_p = jax.nn.log_softmax(logits(whole))
        for k in range(len(found)):
            log_q = jax.nn.log_softmax(logits(function(params, state, inputs, k)))
            off.append(divergence(np.asarray(log_p, np.float64), np.asarray(log_q, np.float64)))
        totals += off
    return dict(zip(found.names, (totals / len(batches)).tolist(), strict=True))


def divergence(log_p: np.ndarray, log_q: np.ndarray) -> float:
    """Return the mean over rows of the sum of q (log q - log p)."""
    return float(np.mean(np.sum(np.exp(log_q) * (log_q - log_p), axis=-1)))


def cka(
    found: Candidates, params: PyTree, batches: Batches, state: PyTree | None = None
) -> dict[str, float]:
    """Score every block by how the features before the head change when the block is off: 1 - linear CKA.

    Args:
      found: from `candidates`.
      params: the trained parameters; nothing in them is changed.
      batches: inputs, each of the shape that the candidates were found on.
      state: the state, where there is one.

    Returns:
      For each candidate its score, in [0, 1].

    References:
      Kornblith et al., `Similarity of Neural Network Representations Revisited
      <https://arxiv.org/abs/1905.00414>`_, 2019
    """
    network = switched(found)

    def features(gates: Array, params: PyTree, *rest: PyTree) -> Array:
        if found.state_shapes is None:
            function = lambda params, gates, *inputs: network(gates, params, *inputs)  # noqa: E731
            return penultimate(function, params, gates, *rest)
        with_state = lambda params, state, gates, *xs: network(gates, params, state, *xs)  # noqa: E731
        return penultimate(with_state, params, gates, *rest[1:], state=rest[0])

    function = _one_at_a_time(found, features, state)

    def all_of(k: int) -> np.ndarray:
        rows = [np.asarray(function(params, state, x, k), np.float64) for x in batches]
        return np.concatenate([r.reshape(len(r), -1) for r in rows])

    whole = all_of(len(found))
    return {name: 1.0 - linear_cka(whole, all_of(k)) for k, name in enumerate(found.names)}


def pls_vip(
    found: Candidates,
    params: PyTree,
    batches: Batches,
    labels: Sequence[Any],
    state: PyTree | None = None,
    activation: Activation = jax.nn.relu,
    components: int = 2,
    pool: int = 8,
) -> dict[str, float]:
    r"""Score every block by the importance of its features in a partial least squares regression on the labels.

    .. math::
        VIP_f = \sqrt{P \, \frac{\sum_h s_h \, w_{fh}^2 / \lVert w_h \rVert^2}{\sum_h s_h}}, \qquad
        s = \operatorname{diag}(T^\top T \, Q^\top Q)

    averaged over the block's features: its stream, pooled over windows.

    Args:
      found: from `candidates`.
      params: the trained parameters.
      batches: inputs, each of the shape that the candidates were found on.
      labels: of each batch, integers.
      state: the state, where there is one.
      activation: what the stream goes through before it is looked at; None for nothing.
      components: of the regression, 2 to 4 in the author's code.
      pool: side of the windows, or the whole map where that is smaller.

    Returns:
      For each candidate its score.

    References:
      Jordao et al., `Deep Network Compression based on Partial Least Squares
      <https://doi.org/10.1016/j.neucom.2020.04.107>`_, 2020
    """
    if len(batches) != len(labels):
        raise ValueError(f"pls_vip got {len(batches)} batches and labels of {len(labels)}.")
    taken = list(_streams(found, params, batches, state, activation))
    features = [
        np.concatenate([_pooled(views[k], pool) for views in taken]) for k in range(len(found))
    ]
    classes, index = np.unique(np.concatenate([np.asarray(y) for y in labels]), return_inverse=True)
    vip = variable_importance(
        np.concatenate(features, axis=1), np.eye(len(classes))[index], components
    )
    ends = np.cumsum([f.shape[1] for f in features])[:-1]
    means = [float(part.mean()) for part in np.split(vip, ends)]
    return dict(zip(found.names, means, strict=True))


def _pooled(a: np.ndarray, pool: int) -> np.ndarray:
    """Means over windows of all axes between the batch and the channels; what does not fill a window is left out."""
    for axis in range(1, a.ndim - 1):
        side = min(pool, a.shape[axis])
        count = a.shape[axis] // side
        a = np.take(a, np.arange(count * side), axis=axis)
        a = a.reshape(*a.shape[:axis], count, side, *a.shape[axis + 1 :]).mean(axis=axis + 1)
    return a.reshape(len(a), -1)


def _streams(
    found: Candidates,
    params: PyTree,
    batches: Batches,
    state: PyTree | None,
    activation: Activation,
) -> Iterator[list[np.ndarray]]:
    network = streams(found)

    @jax.jit
    def views(params: PyTree, state: PyTree | None, inputs: Any) -> list[Array]:
        _, found_views = network(*_given(params, state), *_as_tuple(inputs))
        return [view if activation is None else activation(view) for view in found_views]

    for inputs in batches:
        yield [np.asarray(v, np.float64) for v in views(params, state, inputs)]


def _mean_over(
    found: Candidates,
    params: PyTree,
    batches: Batches,
    state: PyTree | None,
    activation: Activation,
    measure: Callable[[np.ndarray], float],
) -> dict[str, float]:
    rows = [
        [measure(view) for view in views]
        for views in _streams(found, params, batches, state, activation)
    ]
    if not rows:
        raise ValueError("There is no batch to look at. Pass inputs of the shape of the example's.")
    return dict(zip(found.names, np.mean(rows, axis=0).tolist(), strict=True))


def _one_at_a_time(
    found: Candidates, network: Callable[..., Any], state: PyTree | None
) -> Callable[..., Any]:
    """Compile the network once, with block k off; with none off where k is the number of blocks."""

    @jax.jit
    def compiled(gates: Array, params: PyTree, state: PyTree | None, inputs: Any) -> Any:
        out = network(gates, *_given(params, state), *_as_tuple(inputs))
        is_pair = state is not None and isinstance(out, tuple | list)
        return out[0] if is_pair else out

    def function(params: PyTree, state: PyTree | None, inputs: Any, k: int) -> Any:
        gates = (np.arange(len(found)) != k).astype(np.float32)
        return compiled(jnp.asarray(gates), params, state, inputs)

    return function


def _given(params: PyTree, state: PyTree | None) -> tuple[PyTree, ...]:
    return (params,) if state is None else (params, state)


def _as_tuple(inputs: Any) -> tuple[Any, ...]:
    return inputs if isinstance(inputs, tuple) else (inputs,)


def _leaves(out: Any, what: str) -> list[Array]:
    leaves = jax.tree.leaves(out)
    if len(leaves) != 1:
        raise ValueError(
            f"{what} takes one array of logits, and the network returns {len(leaves)} arrays."
        )
    return leaves
