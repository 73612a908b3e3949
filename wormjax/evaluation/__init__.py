"""What can be said of any JAX function: what it costs and how it behaves."""

from wormjax.evaluation._attacks import accuracy_under, fgsm, pgd
from wormjax.evaluation._calibration import calibration_error
from wormjax.evaluation._connectivity import Connectivity, LeafPaths, connectivity
from wormjax.evaluation._corruptions import corrupt, corruption_names
from wormjax.evaluation._emissions import Emissions, emissions, emissions_saved
from wormjax.evaluation._flops import Flops, flops
from wormjax.evaluation._latency import Ratio, Samples, latency
from wormjax.evaluation._layer_memory import layer_memory
from wormjax.evaluation._leaf_macs import LeafMacs, leaf_macs
from wormjax.evaluation._macs import macs
from wormjax.evaluation._memory import Memory, parameters, peak_memory
from wormjax.evaluation._ntk import (
    Estimate,
    Spectrum,
    ntk,
    ntk_spectrum,
    ntk_trace,
    ntk_trace_estimate,
)
from wormjax.evaluation._path_bounds import PathBounds, path_bounds
from wormjax.evaluation._phase_clock import PhaseClock, Span
from wormjax.evaluation._similarity import linear_cka
from wormjax.evaluation._training_cost import (
    detector_flops,
    draw_and_retrain_flops,
    energy,
    training_flops,
)

__all__ = [
    "Connectivity",
    "Emissions",
    "Estimate",
    "Flops",
    "LeafMacs",
    "LeafPaths",
    "Memory",
    "PathBounds",
    "PhaseClock",
    "Ratio",
    "Samples",
    "Span",
    "Spectrum",
    "accuracy_under",
    "calibration_error",
    "connectivity",
    "corrupt",
    "corruption_names",
    "detector_flops",
    "draw_and_retrain_flops",
    "emissions",
    "emissions_saved",
    "energy",
    "fgsm",
    "flops",
    "latency",
    "layer_memory",
    "leaf_macs",
    "linear_cka",
    "macs",
    "ntk",
    "ntk_spectrum",
    "ntk_trace",
    "ntk_trace_estimate",
    "parameters",
    "path_bounds",
    "peak_memory",
    "pgd",
    "training_flops",
]
