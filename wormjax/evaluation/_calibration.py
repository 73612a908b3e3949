"""Whether a classifier is as sure as it is right."""

import numpy as np
from jaxtyping import Array, Float, Integer


def calibration_error(
    logits: Float[Array | np.ndarray, "n classes"],
    labels: Integer[Array | np.ndarray, " n"],
    bins: int = 15,
) -> float:
    r"""Return the expected calibration error of the most likely class.

    .. math:: \mathrm{ECE} = \sum_b \frac{|B_b|}{N} \, \bigl| \mathrm{acc}(B_b) - \mathrm{conf}(B_b) \bigr|

    over bins of equal width, each open below and closed above, of the largest probability.

    Args:
      logits: before the softmax.
      labels: integers.
      bins: how many.

    Returns:
      In [0, 1], computed in float64.

    Raises:
      ValueError: no example, no bin, or a logit that is no number.

    Example:
      >>> import numpy as np
      >>> round(calibration_error(np.log([[0.75, 0.25], [0.75, 0.25]]), np.array([0, 1]), bins=2), 6)
      0.25

    References:
      Guo et al., `On Calibration of Modern Neural Networks <https://arxiv.org/abs/1706.04599>`_, 2017
    """
    z = np.asarray(logits, np.float64)
    if not len(z) or bins < 1:
        raise ValueError(
            f"calibration_error got {len(z)} examples and {bins} bins. One of each at least."
        )
    if not np.isfinite(z).all():
        raise ValueError("calibration_error got logits that are NaN or infinite.")
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == np.asarray(labels)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, right - confidence, bins)
    return float(np.abs(gap).sum() / len(z))
