r"""Networks of rectifiers as sums over paths: a traced program run with stored gates, or without any.

A rectifier network is

.. math:: f_k(x) = \sum_{p \to k} x_{s(p)} \, a_p(x) \prod_{j \in p} \theta_j.

Scores and kernels that speak of its paths run the model's own program with other numbers: ones or squares for weights,
stored decisions or none for rectifiers. Any JAX function will do.
"""

from wormjax.rectified._binary import aligned, scaled_sum, times_power, true_scale
from wormjax.rectified._network import Gates, Network, Scaled, network

__all__ = [
    "Gates",
    "Network",
    "Scaled",
    "aligned",
    "network",
    "scaled_sum",
    "times_power",
    "true_scale",
]
