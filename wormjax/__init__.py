"""wormjax: find lottery tickets in JAX models and cash them in as smaller networks."""

from wormjax import _policies as policies
from wormjax import dst, foresight, layers, lottery, scores, structure
from wormjax._early_bird import EarlyBird, EarlyBirdState, early_bird
from wormjax._l1 import l1_penalty, l1_pull
from wormjax._masks import Jaccard, apply_masks, count_kept, density, jaccard, mask_distance
from wormjax._one_shot import OneShot, one_shot
from wormjax._opt_state import check, early_bird_state, masks_of, seed_axes
from wormjax._packing import PackedMask, pack, unpack
from wormjax._prunable import prunable
from wormjax._random_masks import random_like
from wormjax._selection import top_masks
from wormjax._shift import extend_to_shift
from wormjax._summary import Summary, SummaryRow, summarize
from wormjax._truncate import TruncateState, truncate
from wormjax._worm import WormState, detect, worm
from wormjax.dst import sparse_training
from wormjax.structure import (
    Groups,
    Plan,
    Ticket,
    find_groups,
    group_lasso,
    group_lasso_penalty,
    load_ticket,
    plan,
    save_ticket,
    shrink,
)

__version__ = "0.1.0"

__all__ = [
    "EarlyBird",
    "EarlyBirdState",
    "Groups",
    "Jaccard",
    "OneShot",
    "PackedMask",
    "Plan",
    "Summary",
    "SummaryRow",
    "Ticket",
    "TruncateState",
    "WormState",
    "apply_masks",
    "check",
    "count_kept",
    "density",
    "detect",
    "dst",
    "early_bird",
    "early_bird_state",
    "extend_to_shift",
    "find_groups",
    "foresight",
    "group_lasso",
    "group_lasso_penalty",
    "jaccard",
    "l1_penalty",
    "l1_pull",
    "layers",
    "load_ticket",
    "lottery",
    "mask_distance",
    "masks_of",
    "one_shot",
    "pack",
    "plan",
    "policies",
    "prunable",
    "random_like",
    "save_ticket",
    "scores",
    "seed_axes",
    "shrink",
    "sparse_training",
    "structure",
    "summarize",
    "top_masks",
    "truncate",
    "unpack",
    "worm",
]
