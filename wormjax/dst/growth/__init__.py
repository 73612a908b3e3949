"""What a mask update switches on: one function a rule; the highest scores of inactive entries grow."""

from wormjax.dst.growth._gradient import gradient
from wormjax.dst.growth._momentum import (
    adam_momentum,
    momentum,
    momentum_neuron,
    redistribution,
)
from wormjax.dst.growth._named import NAMED, growth_of
from wormjax.dst.growth._protocol import Growth
from wormjax.dst.growth._quotas import grow_by_neuron, share_out
from wormjax.dst.growth._random import random, random_unfired

__all__ = [
    "NAMED",
    "Growth",
    "adam_momentum",
    "gradient",
    "grow_by_neuron",
    "growth_of",
    "momentum",
    "momentum_neuron",
    "random",
    "random_unfired",
    "redistribution",
    "share_out",
]
