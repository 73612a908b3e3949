"""Lottery tickets by iterative pruning, and what makes them structured."""

from wormjax.lottery._branches import Branch, branch, shuffled_channels
from wormjax.lottery._imp import imp
from wormjax.lottery._level_files import LevelError
from wormjax.lottery._levels import Level, Levels
from wormjax.lottery._network import Network, Stretch, Train
from wormjax.lottery._pruning_step import keep_largest, prune_step, round_counts
from wormjax.lottery._refill import REFILL_PLUS, Refilled, RefillRow, refill, refill_plus
from wormjax.lottery._refill_count import keep_channels, refill_count
from wormjax.lottery._retraining import Loss, retraining, rewind_step
from wormjax.lottery._roles import layer_roles, prunable_layers

__all__ = [
    "REFILL_PLUS",
    "Branch",
    "Level",
    "LevelError",
    "Levels",
    "Loss",
    "Network",
    "RefillRow",
    "Refilled",
    "Stretch",
    "Train",
    "branch",
    "imp",
    "keep_channels",
    "keep_largest",
    "layer_roles",
    "prunable_layers",
    "prune_step",
    "refill",
    "refill_count",
    "refill_plus",
    "retraining",
    "rewind_step",
    "round_counts",
    "shuffled_channels",
]
