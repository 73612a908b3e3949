"""Erdős-Rényi densities: the fewer neurons a layer joins for its size, the sparser it gets."""

import math
from collections.abc import Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple

from jaxtyping import PyTree

from wormjax._counts import as_density, as_fraction
from wormjax._prunable import Rule
from wormjax.dst.distributions._layers import Custom, Distribution, Layer, Rounding, check_rounding
from wormjax.dst.distributions._proportional import Proportional

NO_CUSTOM: Custom = MappingProxyType({})


def er(
    *,
    custom: Custom = NO_CUSTOM,
    count_custom: bool = True,
    stacked: Rule | Sequence[Rule] = (),
    rounding: Rounding = "total",
) -> Distribution:
    r"""Erdős-Rényi densities from the two widths of a layer, whatever its kernel.

    .. math::
        d_l = \min\Big(1, \varepsilon \frac{n_{in} + n_{out}}{n_{in} n_{out}}\Big), \qquad
        \sum_l d_l N_l = d \sum_l N_l

    The widths are the last two axes, as in Flax; a leaf of rank 1 counts as in `erk`. Fantastic Weights' code
    calls ERK by this name.

    Args:
      custom: see `erk`.
      count_custom: see `erk`.
      stacked: see `erk`.
      rounding: see `erk`.

    Returns:
      A distribution.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"a": jnp.ones((3, 3, 10, 10)), "b": jnp.ones((10, 40))}
      >>> er()(params, {"a": True, "b": True}, Fraction(1, 10))
      (102, 28)

    References:
      Mocanu et al., `Scalable Training of Artificial Neural Networks with Adaptive Sparse Connectivity
      inspired by Network Science <https://arxiv.org/abs/1707.04780>`_, 2018
    """
    check_rounding(rounding)
    return Proportional(_widths_ratio, custom, count_custom, stacked, rounding, rounding != "total")


def erk(
    kappa: float | int | str | Fraction = 1,
    *,
    custom: Custom = NO_CUSTOM,
    count_custom: bool = True,
    stacked: Rule | Sequence[Rule] = (),
    rounding: Rounding = "total",
) -> Distribution:
    r"""Erdős-Rényi-kernel densities, from all axes of a kernel.

    .. math::
        d_l = \min\Big(1, \varepsilon \Big(\frac{\sum_i n_i}{\prod_i n_i}\Big)^{\kappa}\Big), \qquad
        \sum_l d_l N_l = d \sum_l N_l

    over the axes :math:`n_i` of the layer, kernel axes included, so the layouts of Flax and PyTorch
    give the same. A depthwise kernel, ``(kh, kw, 1, C)``, has a large ratio for its few entries and is
    usually dense, as it should be.

    Args:
      kappa: exponent; below 1 the densities are more alike, at 0 they are `uniform`.
      custom: densities of some layers by path rule (a regular expression, or a function of path and
        leaf); the first rule that fits a layer decides.
      count_custom: whether these layers count towards the density of the whole. ``False`` gives the others
        the density by themselves, as RigL and JaxPruner do.
      stacked: path rules of leaves that stack layers along their first axis, as `flax.nnx.scan` makes them. It is
        no axis of a layer and stays out of the ratio; the whole stack gets one count. Shapes cannot tell
        such a leaf from another: it must be said.
      rounding: ``"total"`` keeps exactly ``round(d N)`` entries of all, by largest remainders. ``"rigl"``
        and ``"jaxpruner"`` solve with ``floor((1 - d) N_l)`` removed entries a layer, as their codes do, and
        then round every layer for itself: RigL removes ``floor((1 - d_l) N_l)``, JaxPruner keeps
        ``round(d_l N_l)``, halves to even. In both the total is off by up to an entry or so a layer.

    Returns:
      A distribution: ``(params, may, density) -> counts``.

    Raises:
      ValueError: an unknown rounding (when made); a custom density out of range, a rule that fits nothing, custom
        layers that leave too little or too much for the others (when called).

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"a": jnp.ones((64, 64)), "b": jnp.ones((64, 10))}
      >>> erk()(params, {"a": True, "b": True}, Fraction(1, 10))
      (300, 174)

    References:
      Evci et al., `Rigging the Lottery: Making All Tickets Winners <https://arxiv.org/abs/1911.11134>`_,
      2020
    """
    check_rounding(rounding)
    return Proportional(
        _kernel_ratio(kappa), custom, count_custom, stacked, rounding, rounding != "total"
    )


class LayerDensities(NamedTuple):
    """What `erk_densities` returns: epsilon, and the exact density of every prunable leaf by its path."""

    epsilon: Fraction
    densities: dict[str, Fraction]


def erk_densities(
    params: PyTree,
    may: PyTree,
    density: float | int | str | Fraction,
    kappa: float | int | str | Fraction = 1,
    *,
    custom: Custom = NO_CUSTOM,
    count_custom: bool = True,
    stacked: Rule | Sequence[Rule] = (),
) -> LayerDensities:
    """Return the densities of `erk` before they are rounded to entries.

    Args:
      params: any pytree of arrays; shapes are read.
      may: tree of bools as `wj.prunable` returns.
      density: of all prunable leaves together.
      kappa: as for `erk`.
      custom: as for `erk`.
      count_custom: as for `erk`.
      stacked: as for `erk`.

    Returns:
      `LayerDensities`: epsilon and, by path, an exact fraction for each prunable leaf.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"a": jnp.ones((64, 64)), "b": jnp.ones((64, 10))}
      >>> found = erk_densities(params, {"a": True, "b": True}, 0.1)
      >>> {name: round(float(d), 4) for name, d in found.densities.items()}
      {'a': 0.0733, 'b': 0.2711}
    """
    rule = Proportional(_kernel_ratio(kappa), custom, count_custom, stacked, "total")
    solved = rule.solve(params, may, as_density("density", density))
    names = [layer.name for layer in solved.layers]
    return LayerDensities(solved.epsilon, dict(zip(names, solved.densities, strict=True)))


def _widths_ratio(layer: Layer) -> Fraction:
    shape = layer.own_shape[-2:]
    return Fraction(sum(shape), math.prod(shape))


def _kernel_ratio(kappa: float | int | str | Fraction):
    power = as_fraction("kappa", kappa)

    def ratio(layer: Layer) -> Fraction:
        exact = Fraction(sum(layer.own_shape), math.prod(layer.own_shape))
        return exact if power == 1 else Fraction(float(exact) ** float(power))

    return ratio
