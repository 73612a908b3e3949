"""What can be said of any JAX function: what it costs and how it behaves."""

from wormjax.evaluation._macs import macs

__all__ = ["macs"]
