"""How many entries each layer keeps: functions from shapes, scores or masks to exact counts."""

from wormjax.dst.distributions._erdos_renyi import LayerDensities, er, erk, erk_densities
from wormjax.dst.distributions._layers import Distribution
from wormjax.dst.distributions._named import NAMED, named
from wormjax.dst.distributions._sample import sample
from wormjax.dst.distributions._selected import global_magnitude, of_masks, of_scores
from wormjax.dst.distributions._uniform import uniform, uniform_plus

__all__ = [
    "NAMED",
    "Distribution",
    "LayerDensities",
    "er",
    "erk",
    "erk_densities",
    "global_magnitude",
    "named",
    "of_masks",
    "of_scores",
    "sample",
    "uniform",
    "uniform_plus",
]
