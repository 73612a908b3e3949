"""The same density everywhere, or almost."""

from fractions import Fraction

from jaxtyping import PyTree

from wormjax._counts import as_density
from wormjax._prunable import Rule
from wormjax.dst.distributions._apportion import apportion
from wormjax.dst.distributions._erdos_renyi import NO_CUSTOM
from wormjax.dst.distributions._layers import (
    Custom,
    Distribution,
    Layer,
    Rounding,
    check_rounding,
    layers_of,
    one_layer,
)
from wormjax.dst.distributions._proportional import Proportional

LAST = Fraction(1, 5)  # the least density of the last layer in uniform_plus


def uniform(
    *, custom: Custom = NO_CUSTOM, count_custom: bool = True, rounding: Rounding = "total"
) -> Distribution:
    r"""Give every layer the same density, :math:`d_l = d`.

    Args:
      custom: densities of some layers by path rule, as for `erk`.
      count_custom: whether these layers count towards the density of the whole. ``False`` gives all others
        the density itself, as RigL and JaxPruner do (``{"^stem/": 1}`` is RigL's dense first layer).
      rounding: as for `erk`: RigL removes ``floor((1 - d) N_l)`` of every layer, JaxPruner keeps
        ``round(d N_l)``.

    Returns:
      A distribution.

    Example:
      >>> import jax.numpy as jnp
      >>> params, may = {"a": jnp.ones(15), "b": jnp.ones(15)}, {"a": True, "b": True}
      >>> uniform()(params, may, Fraction(1, 2)), uniform(rounding="rigl")(params, may, Fraction(1, 2))
      ((8, 7), (8, 8))
    """
    check_rounding(rounding)
    return Proportional(_equal, custom, count_custom, (), rounding)


def uniform_plus(*, first: Rule | None, last: Rule, legacy: bool = False) -> Distribution:
    """Keep the first layer dense and the last at a fifth or more, the others alike ("uniform+").

    Below density 0.2 the last layer keeps a fifth; from 0.2 on it is a layer like the others. These
    share what the first and the last leave of the budget, so that the whole has the density that was asked for.

    Args:
      first: path rule of the one layer that stays dense, None for no such layer. A pytree's order is
        that of its names and not that of the network, so it must be said.
      last: path rule of the classifier.
      legacy: as Fantastic Weights' code: the others get ``(d N - N_first - N_last / 5) / N`` below 0.2,
        which divides by all entries and stays below the target, and ``d`` from 0.2 on, which exceeds it.

    Returns:
      A distribution.

    Raises:
      ValueError: a rule fits no prunable leaf or several; first and last take more than the budget.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"head": jnp.ones(20), "stem": jnp.ones(4), "wide": jnp.ones(176)}
      >>> may = {"head": True, "stem": True, "wide": True}
      >>> uniform_plus(first="^stem", last="^head")(params, may, Fraction(1, 10))
      (4, 4, 12)

    References:
      Nowak et al., `Fantastic Weights and How to Find Them <https://arxiv.org/abs/2306.12230>`_, 2023
    """

    def distribution(params: PyTree, may: PyTree, density: Fraction) -> tuple[int, ...]:
        d = as_density("density", density)
        layers = layers_of(params, may)
        fixed: dict[str, Fraction] = {}
        if first is not None:
            fixed[one_layer(params, layers, first, "first")] = Fraction(1)
        classifier = one_layer(params, layers, last, "last")
        if d < LAST:
            fixed.setdefault(classifier, LAST)
        if not legacy:
            custom = {_named(name): value for name, value in fixed.items()}
            return Proportional(_equal, custom, True, (), "total")(params, may, d)
        return _legacy_counts(layers, fixed, d)

    return distribution


def _legacy_counts(
    layers: list[Layer], fixed: dict[str, Fraction], density: Fraction
) -> tuple[int, ...]:
    total = sum(layer.size for layer in layers)
    rest = density
    if density < LAST:
        taken = sum((fixed[x.name] * x.size for x in layers if x.name in fixed), Fraction(0))
        rest = (density * total - taken) / total
    if rest <= 0:
        raise ValueError(
            f"At density {float(density):g} the first and the last layer take more than the whole budget of "
            f"{float(density * total):,.0f} entries. Raise the density, or pass first=None."
        )
    quotas = [fixed.get(layer.name, rest) * layer.size for layer in layers]
    return apportion(quotas, round(sum(quotas, Fraction(0))))


def _equal(_: Layer) -> Fraction:
    return Fraction(1)


def _named(name: str) -> Rule:
    return lambda path, _: path == name
