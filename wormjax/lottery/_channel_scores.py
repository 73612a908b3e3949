"""Scores of the output channels of layers: by their weights, or by what they compute on a batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from wormjax._selection import check_choice
from wormjax.lottery._layers import Layer, Layers
from wormjax.scores._protocol import SCALE_NAMES, last_name
from wormjax.structure._groups import Groups
from wormjax.structure._replay import bind

RefillScore = Literal["weight_l1", "remain", "act_l1", "act_l2", "saliency", "bn_gamma", "random"]
SCORES = ("weight_l1", "remain", "act_l1", "act_l2", "saliency", "bn_gamma", "random")


def rows_of(array: Any, axis: int) -> np.ndarray:
    """Return an array as a matrix with one row for each entry of an axis."""
    array = np.asarray(array)
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def weight_scores(
    score: RefillScore,
    layer: Layer,
    axis: int,
    weight: Any,
    mask: np.ndarray,
    own: Mapping[str, Any],
    rng: np.random.Generator | None,
) -> np.ndarray:
    """Score the rows of a weight that lie on its output axis.

    Args:
      score: one that reads no data.
      layer: the layer.
      axis: the output axis of the weight's leaf.
      weight: the leaf, of the round that the mask comes from.
      mask: of its shape.
      own: the layer's bias, scale and shift by path.
      rng: for random ones.

    Raises:
      ValueError: a random score without a generator; no scale for ``"bn_gamma"``.
    """
    kept = rows_of(mask, axis)
    if score == "remain":
        return kept.sum(axis=1).astype(np.float64)
    if score == "weight_l1":
        return np.abs(rows_of(weight, axis).astype(np.float64)).sum(axis=1, where=kept)
    if score == "random":
        if rng is None:
            raise ValueError("score='random' needs key=.")
        return rng.random(len(kept))
    for name, leaf in own.items():
        if last_name(name) in SCALE_NAMES and np.size(leaf) == len(kept):
            return np.abs(np.asarray(leaf, np.float64).ravel())
    raise ValueError(
        f"score='bn_gamma' looks for a scale of {len(kept)} entries behind the layer at step {layer.step}, and there "
        f"is none among {list(own)}."
    )


def activation_rows(
    score: RefillScore,
    groups: Groups,
    layers: Layers,
    chosen: Sequence[int],
    params: PyTree,
    state: PyTree | None,
    inputs: Sequence[PyTree],
    loss: Callable[[Any], Array] | None,
) -> dict[int, np.ndarray]:
    r"""Score output channels by a layer's result on a batch, before normalisation.

    .. math:: \sum |A_c|, \qquad \sum A_c^2, \qquad \sum |A_c \, \partial L / \partial A_c|

    Args:
      score: ``"act_l1"``, ``"act_l2"`` or ``"saliency"``.
      groups: what was traced; the batch must have the shapes of its example inputs.
      layers: its layers.
      chosen: which of them are scored.
      params: masked parameters.
      state: statistics, where there are some.
      inputs: the batch.
      loss: of the output, for saliency.

    Returns:
      For each chosen layer a float64 array over the last channel axis of its result.
    """
    check_choice("score", score, ("act_l1", "act_l2", "saliency"))
    if not inputs:
        raise ValueError(f"score={score!r} needs inputs=, a batch.")
    if score == "saliency" and loss is None:
        raise ValueError("score='saliency' needs loss=, a function of the network's output.")
    shapes = jax.eval_shape(lambda *xs: xs, *inputs)
    if [(x.shape, x.dtype) for x in jax.tree.leaves(shapes)] != [
        (x.shape, x.dtype) for x in jax.tree.leaves(groups.inputs)
    ]:
        raise ValueError(
            "The batch has other shapes than the example inputs that the groups were found on. Find the groups on "
            "inputs like these."
        )
    leaves = [*jax.tree.leaves(params), *jax.tree.leaves(state), *jax.tree.leaves(inputs)]
    flat = layers.flat
    outputs = len(groups.traced.outputs)

    def forward(probes: Mapping[int, Array], operands: Sequence[Array]) -> tuple[Any, Any]:
        known: dict[int, Any] = dict(flat.known)
        known.update(enumerate(operands))
        seen: dict[int, Array] = {}
        for k, step in enumerate(flat.steps):
            found = bind(step.eqn, [known[v] for v in step.inputs])
            if k in chosen:
                seen[k] = found[0]
                found = [found[0] + probes[k]] if k in probes else found
            known.update(zip(step.outputs, found, strict=True))
        out = [known[v] for v in flat.outputs[:outputs]]
        return out, seen

    def channel(k: int) -> int:
        if layers.layers[k].is_convolution:
            return layers.layers[k].eqn.params["dimension_numbers"].out_spec[1]
        return len(flat.axes[flat.steps[k].outputs[0]]) - 1 if layers.layers[k].side else 0

    def summed(k: int, x: Array) -> Array:
        axes = tuple(a for a in range(x.ndim) if a != channel(k))
        return jnp.sum(x.astype(jnp.float32), axis=axes)

    @jax.jit
    def run(operands: Sequence[Array]) -> dict[int, Array]:
        _, seen = forward({}, operands)
        if score != "saliency":
            power = jnp.abs if score == "act_l1" else jnp.square
            return {k: summed(k, power(x)) for k, x in seen.items()}

        def of_probes(probes: Mapping[int, Array]) -> Array:
            out, _ = forward(probes, operands)
            assert loss is not None
            return loss(_output(groups, out))

        slopes = jax.grad(of_probes)({k: jnp.zeros_like(x) for k, x in seen.items()})
        return {k: summed(k, jnp.abs(seen[k] * slopes[k])) for k in seen}

    return {k: np.asarray(x, np.float64) for k, x in run(leaves).items()}


def _output(groups: Groups, leaves: Sequence[Array]) -> Any:
    """The output in its containers, without the state."""
    whole = groups.traced.out_tree
    if groups.state_shapes is None:
        return jax.tree.unflatten(whole, leaves)
    return jax.tree.unflatten(whole.children()[0], leaves)
