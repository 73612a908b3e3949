r"""Numbers that change with the step: which fraction to drop, which density to reach.

A schedule is a function ``(step, begin, end) -> float32``: ``step`` is the optimizer step, counted from 1, and
updates happen from ``begin`` to ``end``. All three may be traced. The drop-fraction schedules start from their
fraction at ``begin``; the density schedules of gradual pruning reach their density at ``end``, exactly, and keep
it after.

Between the two the share of the way is

.. math:: x = \mathrm{clip}\Big(\frac{t - t_{begin}}{t_{end} - t_{begin}}, 0, 1\Big).
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Literal, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from wormjax._counts import as_density, as_fraction

Step: TypeAlias = int | Int[Array, "..."]

Schedule: TypeAlias = Callable[[Step, Step, Step], Float[Array, "..."]]
"""``(step, begin, end) -> float32``: a drop fraction, or a density."""

Origin: TypeAlias = Literal["begin", "global"]


def constant(fraction: float | int = 0.3) -> Schedule:
    """Drop the same fraction at every update.

    Args:
      fraction: of the kept entries of a layer, in [0, 1].

    Returns:
      A schedule.

    Example:
      >>> print(constant(0.3)(500, 100, 1000))
      0.3
    """
    p = _unit("fraction", fraction)
    return lambda step, begin, end: jnp.full(jnp.shape(step), p, jnp.float32)


def cosine(
    fraction: float | int = 0.5, eta: float | int = 0.005, *, origin: Origin = "begin"
) -> Schedule:
    r"""Fall from ``fraction`` to ``eta`` along half a cosine.

    .. math:: p_t = \eta + \tfrac{1}{2} (p_0 - \eta) (1 + \cos \pi x)

    Args:
      fraction: :math:`p_0`, the fraction at ``begin``.
      eta: :math:`\eta`, the fraction at ``end`` and after; 0 for RigL and JaxPruner.
      origin: ``"global"`` is :math:`x = t / (t_{end} - t_{begin})`, not clipped: RigL's and JaxPruner's code forgets
        the first step in it, so that the curve is late by ``begin`` and rises again past its end.

    Returns:
      A schedule.

    Example:
      >>> schedule = cosine(0.5)
      >>> print(schedule(100, 100, 1100), schedule(600, 100, 1100), schedule(2000, 100, 1100))
      0.5 0.2525 0.005

    References:
      Dettmers and Zettlemoyer, `Sparse Networks from Scratch: Faster Training without Losing Performance
      <https://arxiv.org/abs/1907.04840>`_, 2019; Evci et al., `Rigging the Lottery
      <https://arxiv.org/abs/1911.11134>`_, 2020
    """
    p, low = _unit("fraction", fraction), _unit("eta", eta)
    rest = _rest(origin)

    def schedule(step: Step, begin: Step, end: Step) -> Float[Array, "..."]:
        # cos(pi x) = -cos(pi (1 - x))
        swing = jnp.float32(0.5 * (p - low)) * (
            1 - jnp.cos(jnp.float32(math.pi) * rest(step, begin, end))
        )
        return jnp.float32(low) + swing

    return schedule


def linear(fraction: float | int = 0.5, *, origin: Origin = "begin") -> Schedule:
    r"""Fall from ``fraction`` to 0 in a straight line, :math:`p_t = p_0 (1 - x)`.

    What the codes of ITOP and Fantastic Weights call linear is `geometric_legacy`.

    Args:
      fraction: :math:`p_0`.
      origin: as for `cosine`; never below 0.

    Returns:
      A schedule.

    Example:
      >>> print(linear(0.5)(750, 0, 1000))
      0.125
    """
    return exponential(fraction, 1, origin=origin)


def exponential(
    fraction: float | int = 0.3, k: float | int = 3, *, origin: Origin = "begin"
) -> Schedule:
    r"""Fall from ``fraction`` to 0 as a power of what is left, :math:`p_t = p_0 (1 - x)^k`.

    Args:
      fraction: :math:`p_0`.
      k: exponent, positive.
      origin: as for `cosine`; never below 0.

    Returns:
      A schedule.

    Raises:
      ValueError: a number is out of its range.

    Example:
      >>> print(exponential(0.3, 3)(500, 0, 1000))
      0.0375

    References:
      Evci et al., `Rigging the Lottery <https://arxiv.org/abs/1911.11134>`_, 2020
    """
    p, power = _unit("fraction", fraction), float(k)
    if not 0 < power < math.inf:
        raise ValueError(f"k must be a positive exponent, got {k}.")
    rest = _rest(origin)

    def schedule(step: Step, begin: Step, end: Step) -> Float[Array, "..."]:
        left = jnp.maximum(rest(step, begin, end), 0)
        return jnp.float32(p) * left ** jnp.float32(power)

    return schedule


def geometric_legacy(
    fraction: float | int = 0.5, rate: float | int = 0.99, every: int = 600
) -> Schedule:
    r"""Multiply by ``rate`` every so many steps, :math:`p_t = p_0\, r^{\lfloor t / n \rfloor}`.

    The "linear" decay of the codes of ITOP, GraNet and Fantastic Weights. It looks at the step alone.

    Args:
      fraction: :math:`p_0`.
      rate: :math:`r`, in (0, 1].
      every: :math:`n`, in optimizer steps.

    Returns:
      A schedule.

    Raises:
      ValueError: a number is out of its range.

    Example:
      >>> schedule = geometric_legacy(0.5)
      >>> print(schedule(599, 1, 10_000), schedule(600, 1, 10_000))
      0.5 0.495
    """
    p = _unit("fraction", fraction)
    if not 0 < rate <= 1:
        raise ValueError(f"rate must lie in (0, 1], got {rate}.")
    if every < 1:
        raise ValueError(f"every must be at least one step, got {every}.")

    def schedule(step: Step, begin: Step, end: Step) -> Float[Array, "..."]:
        times = (jnp.asarray(step, jnp.int32) // every).astype(jnp.float32)
        return jnp.float32(p) * jnp.float32(rate) ** times

    return schedule


def learning_rate(
    fraction: float | int, schedule: Callable[[Step], Array], peak: float | int
) -> Schedule:
    r"""Drop in proportion to the learning rate, :math:`p_t = p_0 \min(1, \eta(t) / \eta_{peak})`.

    Args:
      fraction: :math:`p_0`, the fraction at the peak.
      schedule: learning rate as a function of the step, such as an optax schedule.
      peak: :math:`\eta_{peak}`, the rate to which ``fraction`` belongs. It must be said, since a warm-up
        begins at a rate of 0.

    Returns:
      A schedule.

    Raises:
      ValueError: ``fraction`` or ``peak`` is out of its range.

    Example:
      >>> import optax
      >>> rate = optax.piecewise_constant_schedule(0.1, {100: 0.5})
      >>> tied = learning_rate(0.3, rate, peak=0.1)
      >>> print(tied(50, 1, 200), tied(150, 1, 200))
      0.3 0.15
    """
    p = _unit("fraction", fraction)
    if not 0 < peak < math.inf:
        raise ValueError(f"peak must be a positive learning rate, got {peak}.")

    def tied(step: Step, begin: Step, end: Step) -> Float[Array, "..."]:
        # optax divides the step by a float, which strict dtype promotion refuses for an int32
        rate = jnp.asarray(schedule(jnp.asarray(step, jnp.float32)), jnp.float32)
        return jnp.float32(p) * jnp.minimum(rate / jnp.float32(peak), 1)

    return tied


def cubic(
    final: float | int | str | Fraction,
    initial: float | int | str | Fraction = 1,
    *,
    power: float | int = 3,
    legacy: Literal["no", "itop", "jaxpruner"] = "no",
) -> Schedule:
    r"""Density of gradual magnitude pruning: fast at first, slow at the end.

    .. math:: d_t = d_{final} + (d_{initial} - d_{final}) (1 - x)^3

    At ``end`` and after, it is ``final`` to the last bit.

    Args:
      final: :math:`d_{final}`.
      initial: :math:`d_{initial}`, 1 for a dense start.
      power: in place of 3.
      legacy: ``"itop"`` divides by ``end - begin + 1`` and ends above its target (count in the units of that code,
        epochs); ``"jaxpruner"`` is a step ahead, :math:`x = (t + 1 - t_{begin}) / (t_{end} - t_{begin})`.

    Returns:
      A density schedule.

    Raises:
      ValueError: a density outside (0, 1], or a power that is not positive.

    Example:
      >>> schedule = cubic(0.1)
      >>> print(schedule(50, 0, 100), schedule(100, 0, 100))
      0.2125 0.1

    References:
      Zhu and Gupta, `To prune, or not to prune: exploring the efficacy of pruning for model compression
      <https://arxiv.org/abs/1710.01878>`_, 2017
    """
    low, high = _densities(final, initial)
    if not 0 < power < math.inf:
        raise ValueError(f"power must be a positive exponent, got {power}.")
    late, longer = {"no": (0, 0), "itop": (0, 1), "jaxpruner": (1, 0)}[legacy]

    def schedule(step: Step, begin: Step, end: Step) -> Float[Array, "..."]:
        t = jnp.asarray(step, jnp.int32) + late
        left = _left(t - begin, jnp.asarray(end, jnp.int32) - begin + longer)
        return _falling(low, high, left, power)

    return schedule


def granet(
    final: float | int | str | Fraction,
    initial: float | int | str | Fraction = 0.5,
    every: int = 1000,
) -> Schedule:
    r"""Density of GraNet: `cubic` in whole update periods.

    .. math::
        d_i = d_{final} + (d_{initial} - d_{final}) \Big(1 - \frac{i - i_0}{i_1 - i_0}\Big)^3, \qquad
        i = \lfloor t / \Delta t \rfloor

    with :math:`i_0, i_1` the periods of ``begin`` and ``end``. GraNet's code stops at :math:`i_1 - 1` where it
    prunes globally and misses its target; here the schedule runs through :math:`i_1`.

    Args:
      final: :math:`d_{final}`.
      initial: :math:`d_{initial}`; 1 from a dense start.
      every: :math:`\Delta t`, in optimizer steps.

    Returns:
      A density schedule.

    Raises:
      ValueError: a density outside (0, 1], or a period below one step.

    Example:
      >>> schedule = granet(0.1, 0.5, every=1000)
      >>> print(schedule(1000, 0, 2000), schedule(1999, 0, 2000), schedule(2000, 0, 2000))
      0.15 0.15 0.1

    References:
      Liu et al., `Sparse Training via Boosting Pruning Plasticity with Neuroregeneration
      <https://arxiv.org/abs/2106.10404>`_, 2021
    """
    low, high = _densities(final, initial)
    if every < 1:
        raise ValueError(f"every must be at least one step, got {every}.")

    def schedule(step: Step, begin: Step, end: Step) -> Float[Array, "..."]:
        t, first, last = (jnp.asarray(s, jnp.int32) // every for s in (step, begin, end))
        return _falling(low, high, _left(t - first, last - first), 3)

    return schedule


def _falling(low: float, high: float, left: Array, power: float | int) -> Float[Array, "..."]:
    # low + (high - low) * 0 is low to the last bit
    return jnp.float32(low) + jnp.float32(high - low) * left ** jnp.float32(power)


def _rest(origin: Origin) -> Callable[[Step, Step, Step], Float[Array, "..."]]:
    if origin == "begin":
        return lambda step, begin, end: _left(
            jnp.asarray(step, jnp.int32) - begin, jnp.asarray(end, jnp.int32) - begin
        )
    if origin != "global":
        raise ValueError(f"origin must be one of 'begin', 'global', got {origin!r}.")

    def from_zero(step: Step, begin: Step, end: Step) -> Float[Array, "..."]:
        span = jnp.maximum(jnp.asarray(end, jnp.int32) - begin, 1)
        rest = span - jnp.asarray(step, jnp.int32)  # negative beyond the end
        return rest.astype(jnp.float32) / span.astype(jnp.float32)

    return from_zero


def _left(passed: Int[Array, "..."], span: Int[Array, "..."]) -> Float[Array, "..."]:
    """Return 1 - x, the share of the way that is left: exactly 1 at the start and 0 at the end.

    Subtracted as integers: of a quotient in floats XLA may keep a fused remainder. A span of nothing is over.
    """
    rest = jnp.clip(span - passed, 0, jnp.maximum(span, 0))
    ratio = rest.astype(jnp.float32) / jnp.maximum(span, 1).astype(jnp.float32)
    begun = jnp.where(passed <= 0, jnp.float32(1), ratio)
    return jnp.where(span > 0, begun, jnp.where(passed < 0, jnp.float32(1), jnp.float32(0)))


def _unit(name: str, value: float | int | str | Fraction) -> float:
    number = as_fraction(name, value)
    if not 0 <= number <= 1:
        raise ValueError(
            f"{name} must lie in [0, 1], got {value}: it is a fraction of the kept entries."
        )
    return float(number)


def _densities(
    final: float | int | str | Fraction, initial: float | int | str | Fraction
) -> tuple[float, float]:
    return float(as_density("final", final)), float(as_density("initial", initial))
