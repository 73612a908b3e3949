"""Foresight pruning: tickets from an untrained (or elsewhere trained) network, before the training that counts."""

from wormjax._random_masks import random_like as shuffled
from wormjax.foresight import _methods as methods
from wormjax.foresight._method import Method
from wormjax.foresight._prune import Pruned, prune
from wormjax.foresight._pruning_set import (
    PruningSet,
    load_pruning_set,
    pruning_set,
    save_pruning_set,
)
from wormjax.foresight._schedules import compression, densities, level
from wormjax.foresight._structured import prune_units
from wormjax.scores._fresh import fresh_like as reinitialised

__all__ = [
    "Method",
    "Pruned",
    "PruningSet",
    "compression",
    "densities",
    "level",
    "load_pruning_set",
    "methods",
    "prune",
    "prune_units",
    "pruning_set",
    "reinitialised",
    "save_pruning_set",
    "shuffled",
]
