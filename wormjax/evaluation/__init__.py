"""What can be said of any JAX function: what it costs and how it behaves."""

from wormjax.evaluation._latency import Ratio, Samples, latency
from wormjax.evaluation._macs import macs
from wormjax.evaluation._macs_by_leaf import MacsByLeaf, macs_by_leaf

__all__ = ["MacsByLeaf", "Ratio", "Samples", "latency", "macs", "macs_by_leaf"]
