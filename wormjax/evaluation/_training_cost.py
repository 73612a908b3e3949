"""What training, finding a ticket and moving data cost, as numbers from numbers.

Floating-point operations are counted as the caller counts those of one forward pass (`flops` or twice the
`macs`); whoever counts a multiply-accumulate as one operation gets half of it, and so says which.
"""

import math
from fractions import Fraction
from typing import TypeVar

Number = float | int
N = TypeVar("N", int, float, Fraction)


def training_flops(forward: N, *, images: int, epochs: int = 1) -> N:
    r"""Return the floating-point operations of training.

    A backward pass counts as two forward passes, one for the gradient of the input and one for that of the
    weights; the optimizer counts nothing:

    .. math:: F = 3 \, F_{forward} \cdot \text{images} \cdot \text{epochs}

    Args:
      forward: operations of the forward pass of one image.
      images: seen in an epoch; drop the ragged rest where training drops it.
      epochs: how many; 0 is none.

    Returns:
      Operations: an exact integer for integers.

    Raises:
      ValueError: a negative number.

    Example:
      VGG-16 on CIFAR-100, in the paper's units of 0.05 peta-operations:

      >>> print(f"{training_flops(627447908, images=50000, epochs=160) / 0.05e15:.1f}")
      301.2

    References:
      You et al., `Drawing Early-Bird Tickets <https://arxiv.org/abs/1909.11957>`_, 2020; the paper does not
      spell the factor out, its tables follow it.
    """
    _check(forward=forward, images=images, epochs=epochs)
    return 3 * forward * images * epochs


def draw_and_retrain_flops(dense: N, pruned: N, *, drawn_at: int, epochs: int) -> N:
    r"""Return the floating-point operations of a search that goes over into retraining.

    The whole network trains until the ticket is drawn, the pruned one for the rest of the same schedule:

    .. math:: F = N_{EB} \, F_{dense} + (N - N_{EB}) \, F_{pruned}

    It holds for a network that is really smaller. One that is only masked costs ``dense`` in every epoch.

    Args:
      dense: operations of one epoch of the whole network, see `training_flops`.
      pruned: the same of the pruned one.
      drawn_at: epochs that the search took, :math:`N_{EB}`.
      epochs: of the schedule, N.

    Returns:
      Operations; an exact integer for integers, an exact fraction for fractions.

    Raises:
      ValueError: a negative number, or a ticket drawn after the schedule's end.

    Example:
      >>> draw_and_retrain_flops(100, 60, drawn_at=11, epochs=90)
      5840

    References:
      You et al., `Drawing Early-Bird Tickets <https://arxiv.org/abs/1909.11957>`_, 2020
    """
    _check(dense=dense, pruned=pruned, drawn_at=drawn_at, epochs=epochs)
    if drawn_at > epochs:
        raise ValueError(
            f"draw_and_retrain_flops got drawn_at={drawn_at} of {epochs} epochs. A search that found nothing "
            "costs its epochs of dense training, and there is nothing to retrain."
        )
    return drawn_at * dense + (epochs - drawn_at) * pruned


def detector_flops(scores: int) -> float:
    r"""Return the operations of drawing one mask and comparing it, as the Early-Bird paper's method has it.

    .. math:: F = 3 N \log_2 N + 2 N

    for sorting N scores and for a distance. `wormjax` does not sort, so this is what the reference spends; of
    training it is nothing either way.

    Args:
      scores: entries of the mask, at least 1.

    Returns:
      Operations.

    Raises:
      ValueError: there is no score.

    Example:
      >>> print(f"{detector_flops(4224):.1f}")
      161074.6

    References:
      You et al., `Drawing Early-Bird Tickets <https://arxiv.org/abs/1909.11957>`_, 2020
    """
    if scores < 1:
        raise ValueError(f"detector_flops got scores={scores}. A mask has at least one entry.")
    return 3 * scores * math.log2(scores) + 2 * scores


def energy(
    flops: Number, bytes_moved: Number, *, joules_per_flop: Number, joules_per_byte: Number
) -> Number:
    r"""Return the analytic estimate of energy, in joules.

    .. math:: E = F e_{flop} + B e_{byte}

    It is a model and no measurement: what stands behind the two constants (device, bit width, memory level) is
    the caller's to say, and they scale with the bit width. There are no defaults, since no one pair is right
    for two devices.

    Args:
      flops: operations.
      bytes_moved: bytes read and written at the memory that the constant is for.
      joules_per_flop: of one operation at the width that is used.
      joules_per_byte: of one byte moved.

    Raises:
      ValueError: a negative number.

    Example:
      >>> energy(2e9, 1e9, joules_per_flop=0.5e-12, joules_per_byte=20e-12)
      0.021
    """
    _check(
        flops=flops,
        bytes_moved=bytes_moved,
        joules_per_flop=joules_per_flop,
        joules_per_byte=joules_per_byte,
    )
    return flops * joules_per_flop + bytes_moved * joules_per_byte


def _check(**numbers: int | float | Fraction) -> None:
    for name, value in numbers.items():
        if not value >= 0:
            raise ValueError(f"{name} is {value}. Give a number that is not negative.")
