"""What is trained: parameters, statistics, the optimizer's state; and what a training function must be."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PyTree


class Network(NamedTuple):
    """A network in training.

    Attributes:
      params: the parameters.
      state: batch statistics and whatever else the forward pass carries; None where there is none.
      opt_state: the optimizer's state; None where the training function makes its own.
    """

    params: PyTree
    state: PyTree = None
    opt_state: PyTree = None


class Stretch(NamedTuple):
    """A stretch of training.

    Attributes:
      steps: the numbers of its optimizer steps, which say where in the order of the data it is.
      rates: float64, the learning rate of each.
    """

    steps: range
    rates: np.ndarray


# A training function: ``train(network, masks, steps, rates) -> network``.
#
# It runs one optimizer step for each number in ``steps``, on the batch that belongs to this number, at the rate of
# ``rates`` in its place, and keeps pruned weights out of the network: by `wj.apply_masks` inside the loss, or on
# parameters and updates after each step. It must be a function of its arguments alone, so that a run which was
# interrupted goes on as if it had not been. ``masks`` has the same shapes in every round: compile it as an argument.
Train = Callable[[Network, Any, range, np.ndarray], Network]
