"""Dynamic sparse training: which weights a sparse network has changes while it trains."""

from wormjax.dst import _schedules as schedules
from wormjax.dst import analysis, distributions
from wormjax.dst._kernels import kernels

__all__ = ["analysis", "distributions", "kernels", "schedules"]
