"""What a mask update drops: one function a criterion; the lowest scores go first."""

from wormjax.dst.criteria._grad_step import grad_step
from wormjax.dst.criteria._grasp import grasp
from wormjax.dst.criteria._magnitude import magnitude
from wormjax.dst.criteria._mest import mest
from wormjax.dst.criteria._named import NAMED, criterion_of
from wormjax.dst.criteria._protocol import Criterion, keep_highest
from wormjax.dst.criteria._random import random
from wormjax.dst.criteria._running import running, running_magnitude, running_snip
from wormjax.dst.criteria._sensitivity import reciprocal_sensitivity, sensitivity
from wormjax.dst.criteria._set import set_
from wormjax.dst.criteria._snip import snip, snip_half, snip_plus
from wormjax.dst.criteria._taylor import taylor

__all__ = [
    "NAMED",
    "Criterion",
    "criterion_of",
    "grad_step",
    "grasp",
    "keep_highest",
    "magnitude",
    "mest",
    "random",
    "reciprocal_sensitivity",
    "running",
    "running_magnitude",
    "running_snip",
    "sensitivity",
    "set_",
    "snip",
    "snip_half",
    "snip_plus",
    "taylor",
]
