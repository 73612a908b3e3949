"""What is pruned once the ticket is drawn: its channels, or what the WORM paper's code prunes instead."""

from jaxtyping import PyTree

import wormjax as wj
from experiments.training import PerSeed
from experiments.worm._config import WormConfig
from wormjax._counts import as_fraction
from wormjax._selection import ranked, select

NEVER = "norm/bias$"  # the paper's code spares the BatchNorm shifts, and nothing else


def pruning_masks(config: WormConfig, params: PyTree, ticket: PyTree) -> PyTree:
    """Return what one seed keeps.

    With ``prune_after="eb_mask"`` that is the ticket. With ``"magnitude_per_tensor"`` it is the larger part of
    every weight, bias and BatchNorm scale by itself, and the ticket only said when: that is what the paper's code
    does. Of a tensor of n entries ``round(n * prune_ratio)`` go, half to even as in Python.

    Args:
      config: says which, and the prune ratio.
      params: weights of one seed.
      ticket: the drawn ticket's masks, on scale and shift.

    Returns:
      Mask tree like ``params``.
    """
    if config.prune_after == "eb_mask":
        return ticket
    may = wj.prunable(params, exclude=NEVER)
    scores = wj.scores.magnitude(params, prunable=may)
    ratio = as_fraction("prune_ratio", config.prune_ratio)
    kept = tuple(x.size - round(ratio * x.size) for x in ranked(scores))
    return select(scores, kept, "leaf", "index")


def pruner(config: WormConfig) -> PerSeed:
    """Return what maps weights, the model's other state and a ticket's masks to pruned weights, state and masks.

    The results have buffers of their own: training donates them.
    """

    def prune(params: PyTree, stats: PyTree, ticket: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        masks = pruning_masks(config, params, ticket)
        return wj.apply_masks(params, masks), stats, masks

    return PerSeed(prune)
