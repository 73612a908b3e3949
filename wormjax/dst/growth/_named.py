"""Growth rules by name."""

from collections.abc import Callable

from wormjax.dst.growth._gradient import gradient
from wormjax.dst.growth._momentum import (
    adam_momentum,
    momentum,
    momentum_neuron,
    redistribution,
)
from wormjax.dst.growth._protocol import Growth
from wormjax.dst.growth._random import random, random_unfired


def _snfs() -> Growth:
    return redistribution(momentum(), "momentum")


NAMED: dict[str, Callable[[], Growth]] = {
    "random": random,
    "random_unfired": random_unfired,
    "gradient": gradient,
    "momentum": momentum,
    "adam_momentum": adam_momentum,
    "momentum_neuron": momentum_neuron,
    "redistribution": _snfs,
}


def growth_of(grow: str | Growth | Callable | None) -> Growth | None:
    """Return the growth rule that a name, a rule or a function of `wormjax.dst.Seen` stands for.

    Raises:
      ValueError: an unknown name.
      TypeError: anything else.
    """
    if grow is None or isinstance(grow, Growth):
        return grow
    if isinstance(grow, str):
        if grow not in NAMED:
            raise ValueError(
                f"grow={grow!r} is no growth rule. Known are {', '.join(map(repr, NAMED))}; None grows nothing, and "
                "a function of wormjax.dst.Seen will do too."
            )
        return NAMED[grow]()
    if grow in NAMED.values():
        name = getattr(grow, "__name__", "")
        raise TypeError(f"grow is the function {name} itself: call it, grow={name}().")
    if callable(grow):
        return Growth(getattr(grow, "__name__", type(grow).__name__), grow)
    raise TypeError(f"grow must be a name, a growth rule, a function or None, got {grow!r}.")
