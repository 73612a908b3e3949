"""What can be said of any JAX function: what it costs and how it behaves."""

from wormjax.evaluation._latency import Ratio, Samples, latency
from wormjax.evaluation._macs import macs

__all__ = ["Ratio", "Samples", "latency", "macs"]
