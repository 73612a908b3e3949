"""NTK-SAP: keep the weights that hold up the spectrum of the neural tangent kernel, without weights or data."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wormjax._selection import check_choice, check_scores
from wormjax.scores._fresh import fresh
from wormjax.scores._protocol import Layout, Rule, is_kernel, lay_out, masked, widened


def ntk_sap(
    params: PyTree,
    batches: Sequence[Any],
    key: PRNGKeyArray,
    *,
    apply: Callable[..., Array],
    settle: Callable[[PyTree, Array], Any] | None = None,
    epsilon: float = 0.01,
    resamples: int = 1,
    inputs: Literal["noise", "data"] = "noise",
    weights: Literal["fresh", "given"] = "fresh",
    init: Callable[[PRNGKeyArray], PyTree] | None = None,
    masks: PyTree | None = None,
    prunable: Rule = None,
) -> PyTree[Float[Array, "..."]]:
    r"""Score every weight by its share in the trace of the neural tangent kernel, of random networks on noise.

    .. math::
        s_j = \Bigl| \sum_{r, b} \frac{\partial}{\partial m_j}
              \bigl\| f(z_{rb}; m \odot \theta_r) - f(z_{rb}; m \odot (\theta_r + \varepsilon \xi_r)) \bigr\|^2 \Bigr|
              \cdot [m_j \ne 0]

    Every pass draws new weights, new inputs and a new perturbation (the paper's "new input, new weight"), so that
    neither the weights nor the data matter; ``params`` is read for its shapes alone, and never changed.

    Args:
      params: any pytree of arrays.
      batches: inputs, one array ``[N, ...]`` a pass; with ``inputs="noise"`` only shapes and dtypes are read.
      key: PRNG key, folded with the pass.
      apply: function of (params, inputs), or (params, inputs, settled) with ``settle``, that returns outputs.
      settle: function of (params, inputs) that returns what ``apply`` takes third: for a network with BatchNorm its
        statistics on these inputs. Base and perturbed network share it; no gradient goes through it.
      epsilon: size of the perturbation, the same for all ranked leaves.
      resamples: passes over the batches in one call.
      inputs: ``"noise"`` draws them from N(0, 1); ``"data"`` takes the batches as they are.
      weights: ``"fresh"`` draws them in every pass; ``"given"`` takes ``params``.
      init: function from a key to fresh parameters. None draws kernels from N(0, 2 / fan-in), sets scales to 1 and
        shifts to 0, and leaves what has another name as it is.
      masks: what is left; None for everything.
      prunable: which leaves are ranked and perturbed, as for `magnitude`.

    Returns:
      The tree of ``params``; a ranked leaf is float32 (float64 for a float64 parameter) of its parameter's shape, any
      other leaf is a rank-0 ``inf``. What is masked scores 0.

    Raises:
      ValueError: there is no batch; ``resamples`` is below 1; a word is unknown; a score is NaN or Inf; or ``masks``
        or ``prunable`` do not fit.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from wormjax import scores
      >>> apply = lambda params, x: x @ params["kernel"]
      >>> tree = scores.ntk_sap({"kernel": jnp.ones((2, 3))}, [jnp.ones((4, 2))], jax.random.key(0), apply=apply)
      >>> tree["kernel"].shape
      (2, 3)

    References:
      Wang et al., `NTK-SAP: Improving neural network pruning by aligning training dynamics
      <https://arxiv.org/abs/2304.02840>`_, 2023
    """
    check_choice("inputs", inputs, ("noise", "data"))
    check_choice("weights", weights, ("fresh", "given"))
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}.")
    if not len(batches):
        raise ValueError("There is no batch. Pass at least one array of inputs, or its shape.")
    layout = lay_out(params, prunable, is_kernel)
    if not layout.ranked:  # an empty part of a tree: its output may not even be defined
        return layout.scores({})
    ones = {leaf.index: jnp.ones_like(widened(jnp.asarray(leaf.value))) for leaf in layout.ranked}
    left = masked(layout, ones, masks)
    total = {i: jnp.zeros_like(x) for i, x in ones.items()}
    for index in range(resamples * len(batches)):
        batch = batches[index % len(batches)]
        draw, noise, shake = jax.random.split(jax.random.fold_in(key, index), 3)
        base = params
        if weights == "fresh":
            base = fresh(layout, draw) if init is None else init(draw)
        z = jax.random.normal(noise, batch.shape, batch.dtype) if inputs == "noise" else batch
        moves = {
            leaf.index: epsilon
            * jax.random.normal(jax.random.fold_in(shake, leaf.index), leaf.value.shape)
            for leaf in layout.ranked
        }
        change = _change(apply, settle, layout, base, z, moves)
        total = jax.tree.map(jnp.add, total, jax.grad(change)(left))
    tree = layout.scores({i: jnp.abs(t) * left[i] for i, t in total.items()})
    check_scores(tree)
    return tree


def _change(
    apply: Callable[..., Array],
    settle: Callable[[PyTree, Array], Any] | None,
    layout: Layout,
    base: PyTree,
    z: Array,
    moves: dict[int, Array],
) -> Callable[[dict[int, Array]], Array]:
    """Return the squared change of the outputs under a perturbation, as a function of the mask."""
    nodes = layout.treedef.flatten_up_to(base)

    def at(mask: dict[int, Array], moved: bool) -> PyTree:
        values = {}
        for i, m in mask.items():
            w = jnp.asarray(nodes[i])
            w = w + moves[i].astype(w.dtype) if moved else w
            values[i] = w * m.astype(w.dtype)
        return layout.treedef.unflatten([values.get(i, node) for i, node in enumerate(nodes)])

    def change(mask: dict[int, Array]) -> Array:
        extra: tuple[Any, ...] = ()
        if settle is not None:
            extra = (jax.lax.stop_gradient(settle(at(mask, False), z)),)
        difference = apply(at(mask, False), z, *extra) - apply(at(mask, True), z, *extra)
        return jnp.sum(jnp.square(widened(difference)))

    return change
