"""Distributions that have a name."""

import difflib
from collections.abc import Callable

from wormjax.dst.distributions._erdos_renyi import er, erk
from wormjax.dst.distributions._layers import Distribution
from wormjax.dst.distributions._selected import global_magnitude
from wormjax.dst.distributions._uniform import uniform

NAMED: dict[str, Callable[[], Distribution]] = {
    "uniform": uniform,
    "er": er,
    "erk": erk,
    "global_magnitude": global_magnitude,
}


def named(distribution: str | Distribution) -> Distribution:
    """Return the distribution of a name, or the one that was given.

    Args:
      distribution: a key of ``NAMED``, or any function ``(params, may, density) -> counts``.

    Raises:
      ValueError: there is none of that name, or it needs to be told more.

    Example:
      >>> import jax.numpy as jnp
      >>> from fractions import Fraction
      >>> named("erk")({"w": jnp.ones((4, 5))}, {"w": True}, Fraction(1, 2))
      (10,)
    """
    if not isinstance(distribution, str):
        return distribution
    if distribution in NAMED:
        return NAMED[distribution]()
    if distribution in ("uniform_plus", "of_scores", "of_masks"):
        asks = {"uniform_plus": "first=..., last=...", "of_scores": "scores", "of_masks": "masks"}
        raise ValueError(
            f"The distribution {distribution!r} needs to be told more than its name: pass "
            f"wj.dst.distributions.{distribution}({asks[distribution]})."
        )
    near = difflib.get_close_matches(distribution, NAMED, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(
        f"There is no distribution {distribution!r}: {hint}Known are {', '.join(NAMED)}; others are functions in "
        "wj.dst.distributions."
    )
