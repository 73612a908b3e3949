"""How alike two representations are."""

import numpy as np
from jaxtyping import Array, Num


def linear_cka(x: Num[Array | np.ndarray, "..."], y: Num[Array | np.ndarray, "..."]) -> float:
    r"""Return the linear centred kernel alignment of two sets of features of the same examples.

    .. math::
        \mathrm{CKA}(X, Y) =
            \frac{\lVert X^\top Y \rVert_F^2}{\lVert X^\top X \rVert_F \, \lVert Y^\top Y \rVert_F}

    of the column-centred features. It does not change with a rotation or a common scale of either. The biased
    estimate, as the layer-ticket papers use it; from few examples of many features it is too high.

    Args:
      x: features, one example a row; further axes are flattened.
      y: features of the same examples, of any width.

    Returns:
      In [0, 1], computed in float64.

    Raises:
      ValueError: other examples, fewer than two, or features that are the same for all of them.

    Example:
      >>> import numpy as np
      >>> round(linear_cka(np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [3.0], [2.0]])), 6)
      0.25

    References:
      Kornblith et al., `Similarity of Neural Network Representations Revisited
      <https://arxiv.org/abs/1905.00414>`_, 2019
    """
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(
            f"linear_cka got {len(x)} and {len(y)} examples. It compares features of the same examples, two at least."
        )
    a, b = (_centred(np.asarray(z, np.float64)) for z in (x, y))
    # the Gram matrices are small where there are fewer examples than features
    if len(a) < max(a.shape[1], b.shape[1]):
        k, m = a @ a.T, b @ b.T
        together, alone = float(np.sum(k * m)), (np.linalg.norm(k), np.linalg.norm(m))
    else:
        together = float(np.sum((a.T @ b) ** 2))
        alone = np.linalg.norm(a.T @ a), np.linalg.norm(b.T @ b)
    if not min(alone) > 0:
        raise ValueError("linear_cka got features that are the same for every example.")
    return together / float(alone[0] * alone[1])


def _centred(z: np.ndarray) -> np.ndarray:
    z = z.reshape(len(z), -1)
    return z - z.mean(axis=0)
