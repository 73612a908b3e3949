"""Criteria averaged over the steps since the last mask update."""

import dataclasses

from wormjax.dst.criteria._magnitude import magnitude
from wormjax.dst.criteria._protocol import Criterion
from wormjax.dst.criteria._snip import snip


def running(criterion: Criterion, beta: float = 0.9) -> Criterion:
    r"""Average a criterion over steps: :math:`E \leftarrow \beta E + (1 - \beta) s`, begun anew at every mask update.

    It costs one float32 an entry of memory and a pass over it at every step.

    Args:
      criterion: any criterion whose score changes from step to step.
      beta: coefficient of the past. It is an argument of its own: the reference takes gamma for it, whose default of 1
        freezes the first value.

    Returns:
      The criterion.

    Raises:
      ValueError: beta outside [0, 1).
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta must lie in [0, 1), got {beta}: at 1 the average never moves.")
    return dataclasses.replace(criterion, name=f"running_{criterion.name}", running=beta)


def running_magnitude(beta: float = 0.9) -> Criterion:
    r"""Drop by the average of :math:`|\theta_j|` since the last mask update; see `running`."""
    return running(magnitude(), beta)


def running_snip(beta: float = 0.9) -> Criterion:
    r"""Drop by the average of :math:`|\theta_j g_j|` since the last mask update; see `running`."""
    return running(snip(), beta)
