"""Dynamic sparse training: networks that are sparse while they train, and whose connections move."""

from wormjax.dst import _grow_init as grow_init
from wormjax.dst import _patterns as patterns
from wormjax.dst import _presets as presets
from wormjax.dst import _ramps as ramps
from wormjax.dst import _schedules as schedules
from wormjax.dst import analysis, criteria, distributions, growth
from wormjax.dst._channels import channel_masks
from wormjax.dst._kernels import kernels
from wormjax.dst._scaled_init import scaled_init
from wormjax.dst._seen import Seen
from wormjax.dst._state import SparseState
from wormjax.dst._transformation import sparse_training

__all__ = [
    "Seen",
    "SparseState",
    "analysis",
    "channel_masks",
    "criteria",
    "distributions",
    "grow_init",
    "growth",
    "kernels",
    "patterns",
    "presets",
    "ramps",
    "scaled_init",
    "schedules",
    "sparse_training",
]
