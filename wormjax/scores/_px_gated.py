"""PX, gated: the paths through a weight, as far as the data open them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from wormjax._selection import check_choice, check_scores
from wormjax.rectified import Scaled, aligned
from wormjax.scores._batches import check_batches
from wormjax.scores._path_mass import (
    NORMALISATIONS,
    Normalisation,
    Paths,
    one_of,
    path_scores,
)
from wormjax.scores._protocol import Rule, is_kernel, lay_out


def px_gated(
    params: PyTree,
    batches: Sequence[PyTree],
    *,
    apply: Callable[[PyTree, Any], Array],
    normalisation: Normalisation = "identity",
    masks: PyTree | None = None,
    prunable: Rule = None,
) -> PyTree[Float[Array, "..."]]:
    r"""Score every weight by the squared paths through it that the data open.

    .. math::
        R = \sum_{n, k} \sum_{p \to k} a_p(x_n) \, x_{n, s(p)}^2 \prod_{j \in p} \theta_j^2, \qquad
        s_j = \theta_j^2 \, \frac{\partial R}{\partial (\theta_j^2)}

    A variant of `px` that is in no paper: there data weigh the outputs alone; here every path carries its own gate
    and input, in one run with squared weights, squared inputs and the stored gates of the network.

    Args:
      params: any pytree of arrays; kernels that are not ranked take part as the others do.
      batches: inputs of ``apply``, each with the batch as its first axis.
      apply: function of (params, inputs) that returns one array of outputs: a piecewise linear network in evaluation
        mode.
      normalisation: as for `px`.
      masks: what is left; None for everything.
      prunable: which leaves are ranked, as for `px`.

    Returns:
      As `px`. In a plain network every layer's scores have the sum R.

    Raises:
      ValueError: as `px`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from wormjax import scores
      >>> params = [jnp.array([[1.0, 2.0], [-1.0, 1.0]]), jnp.array([[1.0, -1.0], [2.0, 0.5]])]
      >>> apply = lambda params, x: jax.nn.relu(x @ params[0]) @ params[1]
      >>> print(scores.px_gated(params, [jnp.array([[1.0, 2.0], [2.0, -1.0]])], apply=apply)[1])
      [[  5.     5.  ]
       [100.     6.25]]
    """
    check_choice("normalisation", normalisation, NORMALISATIONS)
    layout = lay_out(params, prunable, is_kernel)
    if not layout.ranked:  # an empty part of a tree: its output may not even be defined
        return layout.scores({})
    batches = check_batches(batches)
    one_of(batches[0])  # raises on inputs that are not floating
    paths = Paths(layout, apply, masks, normalisation)
    found: list[tuple[Scaled, dict[int, Array]]] = []
    for batch in batches:
        net = paths.network(batch)
        _, gates = net.record(paths.params(paths.masked(paths.weights)), batch)
        found.append(paths.flow(net, jax.tree.map(jnp.square, batch), gates=gates))
    values, exponent = aligned([flow for flow, _ in found])
    slopes = {}
    for leaf in layout.ranked:
        parts, _ = aligned([(s[leaf.index], flow[1]) for flow, s in found])
        slopes[leaf.index] = sum(parts[1:], parts[0])
    tree = path_scores(layout, (sum(values[1:], values[0]), exponent), slopes, paths.squares())
    check_scores(tree)
    return tree
