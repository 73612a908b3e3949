"""Lottery tickets by iterative pruning, and what makes them structured."""

from wormjax.lottery._block_apply import BlockApply, BlockTicket, block_apply, row_blocks
from wormjax.lottery._block_rules import block_columns
from wormjax.lottery._blocks import Block, BlockList, BlockListError, LayerBlocks
from wormjax.lottery._branches import Branch, branch, shuffled_channels
from wormjax.lottery._execution import (
    Contender,
    ExecutionRow,
    execution_report,
    execution_table,
)
from wormjax.lottery._imp import imp
from wormjax.lottery._level_files import LevelError
from wormjax.lottery._levels import Level, Levels
from wormjax.lottery._network import Network, Stretch, Train
from wormjax.lottery._partition import partition
from wormjax.lottery._pruning_step import keep_largest, prune_step, round_counts, score_masks
from wormjax.lottery._refill import REFILL_PLUS, Refilled, RefillRow, refill, refill_plus
from wormjax.lottery._refill_count import keep_channels, refill_count
from wormjax.lottery._regroup import Regrouped, RegroupRow, executed_macs, regroup
from wormjax.lottery._regroup_matrix import (
    REGROUP_REFERENCE,
    MatrixBlocks,
    RegroupSettings,
    regroup_matrix,
)
from wormjax.lottery._retraining import Loss, retraining, rewind_step
from wormjax.lottery._roles import layer_roles, prunable_layers

__all__ = [
    "REFILL_PLUS",
    "REGROUP_REFERENCE",
    "Block",
    "BlockApply",
    "BlockList",
    "BlockListError",
    "BlockTicket",
    "Branch",
    "Contender",
    "ExecutionRow",
    "LayerBlocks",
    "Level",
    "LevelError",
    "Levels",
    "Loss",
    "MatrixBlocks",
    "Network",
    "RefillRow",
    "Refilled",
    "RegroupRow",
    "RegroupSettings",
    "Regrouped",
    "Stretch",
    "Train",
    "block_apply",
    "block_columns",
    "branch",
    "executed_macs",
    "execution_report",
    "execution_table",
    "imp",
    "keep_channels",
    "keep_largest",
    "layer_roles",
    "partition",
    "prunable_layers",
    "prune_step",
    "refill",
    "refill_count",
    "refill_plus",
    "regroup",
    "regroup_matrix",
    "retraining",
    "rewind_step",
    "round_counts",
    "row_blocks",
    "score_masks",
    "shuffled_channels",
]
