"""Partial least squares regression, and how important each variable is in it."""

import numpy as np
from jaxtyping import Float


def variable_importance(
    x: Float[np.ndarray, "samples features"],
    y: Float[np.ndarray, "samples targets"],
    components: int,
) -> Float[np.ndarray, " features"]:
    r"""Return the importance of each variable in the projection (VIP).

    .. math::
        VIP_f = \sqrt{P \, \frac{\sum_h s_h \, w_{fh}^2}{\sum_h s_h}}, \qquad
        s_h = \lVert t_h \rVert^2 \, \lVert q_h \rVert^2

    for P variables, unit weights w, scores t and target loadings q of each component h. Columns are centred and
    scaled by their standard deviation first; a weight is the first left singular vector of what is left of
    :math:`X^\top Y`.

    Args:
      x: variables.
      y: targets.
      components: how many.

    Raises:
      ValueError: more components than the data have.

    References:
      Wold et al., `PLS-regression: a basic tool of chemometrics
      <https://doi.org/10.1016/S0169-7439(01)00155-1>`_, 2001
    """
    if not 1 <= components <= min(len(x) - 1, x.shape[1]):
        raise ValueError(
            f"{components} components cannot be taken from {len(x)} samples of {x.shape[1]} variables."
        )
    x, y = _standardised(x), _standardised(y)
    weights, sums = [], []
    for _ in range(components):
        left, _, _ = np.linalg.svd(x.T @ y, full_matrices=False)
        w = left[:, 0]
        t = x @ w
        square = float(t @ t)
        if square <= np.finfo(np.float64).eps * x.size:
            break  # nothing is left to explain
        q = y.T @ t / square
        x = x - np.outer(t, x.T @ t / square)
        y = y - np.outer(t, q)
        weights.append(w**2)
        sums.append(square * float(q @ q))
    total = sum(sums)
    if not total > 0:
        raise ValueError(
            "The features say nothing of the labels: they, or the labels, are constant."
        )
    mean = sum(s * w for s, w in zip(sums, weights, strict=True)) / total
    return np.sqrt(x.shape[1] * mean)


def _standardised(a: np.ndarray) -> np.ndarray:
    a = a - a.mean(axis=0)
    scale = a.std(axis=0, ddof=1)
    return a / np.where(scale > 0, scale, 1.0)
