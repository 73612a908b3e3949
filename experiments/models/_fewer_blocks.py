"""From a residual network that has lost blocks to the configuration that builds it natively."""

import dataclasses
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from experiments.models._build import ModelConfig, abstract
from experiments.models._preresnet import PreResNetConfig
from experiments.models._residual import stage_blocks
from experiments.models._resnet import ResNetConfig


class Fewer(NamedTuple):
    """A network of fewer blocks, an ordinary one with a configuration of its own.

    Attributes:
      config: of the small network.
      params: its parameters.
      state: its state.
    """

    config: ModelConfig
    params: PyTree
    state: PyTree


def fewer_blocks(config: ModelConfig, params: PyTree, state: PyTree) -> Fewer:
    """Return the network without the blocks of which a layer ticket has kept nothing.

    Blocks are carried over by their identity, ``layers/0`` being the stem and the blocks following in order; blocks
    of one stage have equal shapes, so that a copy by number alone would take the wrong one and fit.

    Args:
      config: of the network that lost the blocks, a `ResNetConfig` or `PreResNetConfig`.
      params: of the ticket, its removed parameters without entries.
      state: likewise.

    Raises:
      TypeError: another kind of network.
      ValueError: the parts that are left are not those of such a network.
    """
    if not isinstance(config, ResNetConfig | PreResNetConfig):
        raise TypeError(
            f"{type(config).__name__} has no residual blocks to lose; use a ResNet or a PreResNet."
        )
    if config.inner_widths is not None:
        raise ValueError(
            "Blocks of a network with inner_widths cannot be taken out. Remove blocks before channels."
        )
    kept = [
        k for k, layer in params["layers"].items() if any(x.size for x in jax.tree.leaves(layer))
    ]
    counts, first = [], 1
    for count in stage_blocks(config):
        counts.append(sum(first <= k < first + count for k in kept))
        first += count
    small = dataclasses.replace(config, blocks=tuple(counts))
    new = [
        {
            **tree,
            "layers": {
                new: tree["layers"][old] for new, old in enumerate(kept) if old in tree["layers"]
            },
        }
        for tree in (params, state)
    ]
    view = abstract(small)
    for have, want, what in zip(
        new, (view.params, view.state), ("parameters", "state"), strict=True
    ):
        shapes = [jax.tree.map(lambda x: x.shape, tree) for tree in (have, want)]
        structure: Any = jax.tree.structure(want)
        if jax.tree.structure(have) != structure or shapes[0] != shapes[1]:
            raise ValueError(
                f"The {what} that are left are not those of {small}: something else than whole blocks went."
            )
    return Fewer(small, *new)
