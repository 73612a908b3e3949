"""The mass of paths that run through a weight: what SynFlow-L2 and all forms of PX share."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from wormjax.rectified import Network, Scaled, network, times_power, true_scale
from wormjax.scores._protocol import Layout, is_kernel, masked, widened

# what stays of a normalisation: nothing, or its scale, as a trained one needs
Normalisation = Literal["identity", "running"]
NORMALISATIONS = ("identity", "running")


class Paths:
    """A network whose weights are known, taken apart.

    Args:
      layout: of the parameters.
      apply: function of (params, inputs) that returns one array of outputs.
      masks: what is left; None for everything.
      normalisation: what stays of it.
    """

    def __init__(
        self,
        layout: Layout,
        apply: Callable[[PyTree, Any], Array],
        masks: PyTree | None,
        normalisation: Normalisation,
    ):
        self._layout, self._apply, self._masks = layout, apply, masks
        self._normalisation = normalisation
        self.weights = {
            leaf.index: jnp.asarray(leaf.value)
            for leaf in layout.leaves
            if leaf.ranked or _is_floating_kernel(leaf.name, leaf.value)
        }

    def network(self, inputs: PyTree) -> Network:
        """Trace the network on inputs of these shapes."""
        return network(self._apply, self._layout.params({}), inputs, tuple(self._places().values()))

    def masked(self, weights: Mapping[int, Array]) -> dict[int, Array]:
        """Return weights with what is pruned set to zero."""
        return masked(self._layout, weights, self._masks)

    def ones(self) -> dict[int, Array]:
        """Return the weights of the network that counts paths: 1 where one is left."""
        return self.masked({i: jnp.ones_like(w) for i, w in self.weights.items()})

    def squares(self) -> dict[int, Array]:
        """Return the squares of all weights, what is pruned too."""
        return {i: jnp.square(widened(w)).astype(w.dtype) for i, w in self.weights.items()}

    def params(self, weights: Mapping[int, Array]) -> PyTree:
        """Return the parameters with these weights."""
        return self._layout.params(weights)

    def head(self, inputs: PyTree) -> frozenset[int]:
        """Return the weights of the last product, by their index in the layout."""
        back = {place: index for index, place in self._places().items()}
        places = self.network(inputs).head(self._layout.params({}), inputs)
        return frozenset(back[place] for place in places)

    def factor(self, power: int) -> Callable[[Array], Array] | None:
        """Return what the scale of a normalisation becomes: nothing, or its absolute value to a power."""
        return None if self._normalisation == "identity" else lambda s: jnp.abs(s) ** power

    def flow(
        self,
        net: Network,
        inputs: PyTree,
        *,
        power: int = 2,
        class_weights: Array | None = None,
        gates: Any = None,
        weights: dict[int, Array] | None = None,
    ) -> tuple[Scaled, dict[int, Array]]:
        """Return R, and its derivatives in the ranked weights, divided by 2 to the exponent of R.

        Args:
          net: the network on inputs of this shape.
          inputs: not negative.
          power: to which weights and scales are taken.
          class_weights: for each output its weight in R; None for 1.
          gates: stored decisions of the rectifiers; None opens all.
          weights: what to put for the weights; None for their squares.
        """
        values = self.squares() if weights is None else weights
        chosen = {leaf.index for leaf in self._layout.ranked}
        rest = {i: w for i, w in values.items() if i not in chosen}

        def total(ranked: dict[int, Array]) -> tuple[Array, Int[Array, ""]]:
            left = self.params(self.masked(rest | ranked))
            outputs, exponent = net.paths(
                left,
                inputs,
                gates=gates,
                factor=self.factor(power),
                matrix=lambda x: jnp.abs(x) ** power,
            )
            outputs = widened(outputs)
            if class_weights is not None:
                outputs = outputs * class_weights[None]
            return jnp.sum(outputs), exponent

        ranked = {i: values[i] for i in chosen}
        (value, exponent), slopes = jax.value_and_grad(total, has_aux=True)(ranked)
        return (value, exponent), slopes

    def _places(self) -> dict[int, int]:
        """For each weight its place among the leaves; `optax.MaskedNode` counts in an index and is no leaf."""
        order = [leaf.index for leaf in self._layout.leaves]
        return {index: place for place, index in enumerate(order) if index in self.weights}


def path_scores(
    layout: Layout, flow: Scaled, slopes: Mapping[int, Array], times: Mapping[int, Array]
) -> PyTree:
    """Return the score tree of weights times slopes, NaN where no path is left at all.

    Args:
      layout: of the parameters.
      flow: R, see `Paths.flow`.
      slopes: derivatives of R, divided by 2 to its exponent.
      times: what they are multiplied with.

    Raises:
      ValueError: R is 0, outside of ``jax.jit``.
    """
    value, exponent = flow
    if not isinstance(value, jax.core.Tracer) and value == 0:
        raise ValueError(
            "No path of weights leads from the input to the output, so a score of paths ranks nothing: a layer is "
            "pruned away or zero, or the inputs are. Prune less, or in more rounds."
        )
    scale = true_scale(value, exponent)
    return layout.scores(
        {
            i: jnp.where(value == 0, jnp.nan, times_power(widened(times[i]) * widened(s), scale))
            for i, s in slopes.items()
        }
    )


def one_of(batch: PyTree) -> PyTree:
    """Return ones for a single example of a batch.

    Raises:
      ValueError: an input is not floating, has no batch axis, or there is none.
    """
    if not jax.tree.leaves(batch):
        raise ValueError("The batch holds no array. Pass the inputs of apply, or their shapes.")
    for x in jax.tree.leaves(batch):
        if not jnp.issubdtype(x.dtype, jnp.floating) or x.ndim == 0:
            raise ValueError(
                f"An input has dtype {x.dtype} and shape {x.shape}; a sum over paths begins at real numbers whose "
                "first axis is the batch. For tokens, let apply start at the embeddings."
            )
    return jax.tree.map(lambda x: jnp.ones((1, *x.shape[1:]), x.dtype), batch)


def _is_floating_kernel(name: str, value: Any) -> bool:
    floating = jnp.issubdtype(getattr(value, "dtype", jnp.int32), jnp.floating)
    return bool(floating) and is_kernel(name, value)
