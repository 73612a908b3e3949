"""What sparse training did: overlaps, explored and old connections, layers, costs."""

from wormjax.dst.analysis._cost import (
    Bits,
    Flops,
    inference_flops,
    parameter_bits,
    rigl_step_flops,
    training_flops,
)
from wormjax.dst.analysis._criteria import removed_by
from wormjax.dst.analysis._history import (
    Exploration,
    MaskHistory,
    advance_history,
    age_counts,
    exploration,
    regrown_rate,
    start_history,
)
from wormjax.dst.analysis._layers import DeadUnits, LayerDensity, dead_units, layer_densities
from wormjax.dst.analysis._overlap import (
    JaccardMatrix,
    Overlap,
    chance_jaccard,
    jaccard_matrix,
    overlap,
    removed_from,
    removed_sets,
    step_to_step,
)

__all__ = [
    "Bits",
    "DeadUnits",
    "Exploration",
    "Flops",
    "JaccardMatrix",
    "LayerDensity",
    "MaskHistory",
    "Overlap",
    "advance_history",
    "age_counts",
    "chance_jaccard",
    "dead_units",
    "exploration",
    "inference_flops",
    "jaccard_matrix",
    "layer_densities",
    "overlap",
    "parameter_bits",
    "regrown_rate",
    "removed_by",
    "removed_from",
    "removed_sets",
    "rigl_step_flops",
    "start_history",
    "step_to_step",
    "training_flops",
]
