"""The channels that a ticket keeps, as flat masks on the host."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

import wormjax as wj
from experiments.early_bird._setup import Setup
from experiments.early_bird._trials import Trial
from wormjax._selection import ranked

_RANDOM = 2**31 + 11  # folded into a seed's key; apart from its other uses


class Drawn(NamedTuple):
    """A ticket's mask.

    Attributes:
      flat: which channels stay, bool over all layers.
      spared: layers that the mask would have emptied, and that keep their best channel instead.
    """

    flat: np.ndarray
    spared: int


def spare_layers(flat: np.ndarray, scores: np.ndarray, edges: Sequence[int]) -> Drawn:
    """Give a layer that lost every channel its best one back: without it nothing passes through.

    Args:
      flat: bool, the mask over all layers.
      scores: a score for each channel; ties go to the first.
      edges: where layers begin and end.

    Example:
      >>> mask = np.array([True, False, False, False])
      >>> spare_layers(mask, np.array([9.0, 8.0, 1.0, 2.0]), [0, 2, 4])
      Drawn(flat=array([ True, False, False,  True]), spared=1)
    """
    flat, spared = np.array(flat, bool), 0
    for begin, end in itertools.pairwise(edges):
        if not flat[begin:end].any():
            flat[begin + int(np.argmax(scores[begin:end]))] = True
            spared += 1
    return Drawn(flat, spared)


def by_scales(setup: Setup, mask: np.ndarray, params: PyTree) -> Drawn:
    """Return a recorded mask; ``params`` are the weights, of one seed, that it was drawn from."""
    scales = ranked(jax.device_get(wj.scores.norm_scale(params)))
    return spare_layers(mask, np.concatenate([s.ravel() for s in scales]), setup.edges)


def at_random(setup: Setup, drawn: Drawn, seed: int) -> Drawn:
    """Return as many random channels of every layer as a ticket keeps."""
    key = jax.random.fold_in(jax.random.key(seed), _RANDOM)
    parts = np.split(drawn.flat, setup.edges[1:-1])
    random = wj.random_like(key, [jnp.asarray(part) for part in parts])
    return Drawn(np.concatenate(jax.device_get(random)), drawn.spared)


def by_sensitivity(
    trial: Trial, place: int, scores: np.ndarray, masks: np.ndarray, setup: Setup
) -> Drawn:
    """Return the channels with the largest scores before training, as many as a ticket keeps.

    Args:
      trial: which.
      place: of its ratio among the run's.
      scores: of one seed, from `Setup.sensitivity`.
      masks: one a ratio, likewise.
      setup: for the layers.

    Raises:
      ValueError: a score is not finite.
    """
    if not np.isfinite(scores).all():
        raise ValueError(
            f"Arm {trial.name!r} scored channels with NaN or infinity before training."
        )
    return spare_layers(masks[place], scores, setup.edges)
