"""The shape that most distributions have: densities in given proportions, some of them fixed."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

from jaxtyping import PyTree

from wormjax._counts import as_density
from wormjax._prunable import Rule
from wormjax.dst.distributions._apportion import to_counts
from wormjax.dst.distributions._layers import (
    Custom,
    Layer,
    Rounding,
    check_rounding,
    custom_densities,
    layers_of,
)


class Solution(NamedTuple):
    """Layer densities before rounding.

    Attributes:
      layers: the prunable leaves, in flatten order.
      epsilon: what the proportions of the layers that are not dense were multiplied by; 0 if all are dense.
      densities: one exact fraction in (0, 1] for each.
    """

    layers: list[Layer]
    epsilon: Fraction
    densities: list[Fraction]


@dataclasses.dataclass(frozen=True)
class Proportional:
    """A distribution whose densities stand in given proportions, at most 1 each.

    Attributes:
      raw: the proportion of a layer, from what is known of it.
      custom: densities of some layers by path rule.
      count_custom: whether these count towards the density of the whole.
      stacked: path rules of leaves that stack layers.
      rounding: how entries come of densities.
      floored: solve with whole removed entries a layer, as the codes of RigL and JaxPruner do for ERK.
    """

    raw: Callable[[Layer], Fraction]
    custom: Custom
    count_custom: bool
    stacked: Rule | Sequence[Rule]
    rounding: Rounding
    floored: bool = False

    def __call__(self, params: PyTree, may: PyTree, density: Fraction) -> tuple[int, ...]:
        """Return the counts of the prunable leaves."""
        solved = self.solve(params, may, density)
        return to_counts(solved.layers, solved.densities, self.rounding)

    def solve(self, params: PyTree, may: PyTree, density: Fraction) -> Solution:
        """Return the densities before they are rounded."""
        check_rounding(self.rounding)
        d = as_density("density", density)
        layers = layers_of(params, may, self.stacked)
        fixed = custom_densities(params, layers, self.custom)
        free = [layer for layer in layers if layer.name not in fixed]
        budget = sum((self._share(layer, d) for layer in free), Fraction(0))
        if self.count_custom:
            held = [layer for layer in layers if layer.name in fixed]
            budget += sum((self._share(x, d) - fixed[x.name] * x.size for x in held), Fraction(0))
        sizes = [layer.size for layer in free]
        if free and not 0 < budget <= sum(sizes):
            raise ValueError(
                f"Layers of a fixed density ({', '.join(map(repr, fixed))}) leave {float(budget):,.0f} entries for "
                f"the {sum(sizes):,} of the others at density {float(d):g}. Fix other densities, or let them not "
                "count (count_custom=False)."
            )
        epsilon, found = scaled_densities([self.raw(layer) for layer in free], sizes, budget)
        of_free = iter(found)
        densities = [fixed[x.name] if x.name in fixed else next(of_free) for x in layers]
        return Solution(layers, epsilon, densities)

    def _share(self, layer: Layer, density: Fraction) -> Fraction:
        """Return what a layer adds to the budget."""
        if not self.floored:
            return density * layer.size
        return Fraction(layer.size - math.floor((1 - density) * layer.size))


def scaled_densities(
    raw: Sequence[Fraction],
    sizes: Sequence[int],
    budget: Fraction,
    most: Sequence[Fraction] | None = None,
) -> tuple[Fraction, list[Fraction]]:
    r"""Solve :math:`\sum_l d_l N_l = B` for :math:`d_l = \min(b_l, \varepsilon r_l)`.

    While some :math:`\varepsilon r_l` exceeds its bound, every layer that attains the largest :math:`r_l / b_l` gets
    the bound and the others share what is left. All numbers are exact fractions: a density of exactly 1 is found as
    such, and rounding pushes no layer out.

    Args:
      raw: :math:`r_l`, positive.
      sizes: :math:`N_l`.
      budget: :math:`B`, positive and at most what the bounds allow.
      most: :math:`b_l` in (0, 1]; 1 everywhere by default.

    Returns:
      :math:`\varepsilon` of the layers below their bounds (0 where there are none), and the densities.
    """
    bounds = [Fraction(1)] * len(raw) if most is None else list(most)
    full: set[int] = set()
    while len(full) < len(raw):
        left = [i for i in range(len(raw)) if i not in full]
        rest = budget - sum(bounds[i] * sizes[i] for i in full)
        epsilon = rest / sum((raw[i] * sizes[i] for i in left), Fraction(0))
        largest = max(raw[i] / bounds[i] for i in left)
        if largest * epsilon <= 1:
            return epsilon, [
                b if i in full else epsilon * r
                for i, (r, b) in enumerate(zip(raw, bounds, strict=True))
            ]
        full |= {i for i in left if raw[i] / bounds[i] == largest}
    return Fraction(0), bounds
