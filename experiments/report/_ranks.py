"""Do methods differ over many settings? Mean ranks, Friedman's test and Nemenyi's critical difference."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import chi2, rankdata, studentized_range


@dataclasses.dataclass(frozen=True)
class Ranks:
    """What `friedman` returns.

    Attributes:
      names: the methods, best mean rank first.
      mean_ranks: of each; 1 is best, ties share their mean.
      blocks: number of settings that were ranked.
      statistic: Friedman's chi square, corrected for ties.
      p_value: probability of such a statistic where all methods are alike.
      critical_distance: mean ranks that differ by less are not told apart by Nemenyi's test.
      level: 1 minus the error of that test over all pairs.
    """

    names: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    blocks: int
    statistic: float
    p_value: float
    critical_distance: float
    level: float

    def record(self) -> dict[str, Any]:
        """Return plain values for ``summary.json``."""
        return {
            **dataclasses.asdict(self),
            "names": list(self.names),
            "mean_ranks": list(self.mean_ranks),
        }


def friedman(values: Mapping[str, Sequence[float]], level: float = 0.95) -> Ranks:
    r"""Rank methods within every setting, higher values first, and test whether mean ranks differ.

    .. math::
        \chi^2_F = \frac{(k - 1) \sum_j (R_j - n\,(k+1)/2)^2}{\sum_{ij} r_{ij}^2 - n\,k\,(k+1)^2/4}, \qquad
        CD = \frac{q_{\alpha, k}}{\sqrt 2} \sqrt{\frac{k (k+1)}{6 n}}

    with ranks :math:`r_{ij}` of k methods in n settings and their sums :math:`R_j`.

    Args:
      values: for each method one value per setting, in the same order of settings.
      level: 1 - alpha.

    Returns:
      `Ranks`.

    Raises:
      ValueError: fewer than two methods or settings, other numbers of values, or a value that is not finite.

    Example:
      >>> found = friedman({"a": [0.9, 0.8, 0.7], "b": [0.8, 0.7, 0.6], "c": [0.7, 0.8, 0.5]})
      >>> found.names, [round(r, 2) for r in found.mean_ranks]
      (('a', 'b', 'c'), [1.17, 2.33, 2.5])

    References:
      Demšar, `Statistical Comparisons of Classifiers over Multiple Data Sets
      <https://www.jmlr.org/papers/v7/demsar06a.html>`_, 2006
    """
    lengths = {len(v) for v in values.values()}
    if len(values) < 2 or len(lengths) != 1 or min(lengths) < 2:
        raise ValueError(
            f"ranks need two methods or more with as many values each, two or more; got "
            f"{ {name: len(v) for name, v in values.items()} }."
        )
    table = np.array(list(values.values()), float).T
    if not np.isfinite(table).all():
        raise ValueError(
            "a value to be ranked is not finite; leave out the setting in which one is missing."
        )
    n, k = table.shape
    ranks = rankdata(-table, axis=1)
    spread = float((ranks**2).sum() - n * k * (k + 1) ** 2 / 4)
    sums = ranks.sum(axis=0)
    statistic = (k - 1) * float(((sums - n * (k + 1) / 2) ** 2).sum()) / spread if spread else 0.0
    q = float(studentized_range.ppf(level, k, np.inf)) / math.sqrt(2)
    means = ranks.mean(axis=0)
    order = sorted(range(k), key=lambda j: (means[j], j))
    names = list(values)
    return Ranks(
        tuple(names[j] for j in order),
        tuple(float(means[j]) for j in order),
        n,
        statistic,
        float(chi2.sf(statistic, k - 1)),
        q * math.sqrt(k * (k + 1) / (6 * n)),
        level,
    )
