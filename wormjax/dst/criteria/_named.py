"""Drop criteria by name."""

import inspect
from collections.abc import Callable

from wormjax.dst.criteria._grad_step import grad_step
from wormjax.dst.criteria._grasp import grasp
from wormjax.dst.criteria._magnitude import magnitude
from wormjax.dst.criteria._mest import mest
from wormjax.dst.criteria._protocol import Criterion
from wormjax.dst.criteria._random import random
from wormjax.dst.criteria._running import running_magnitude, running_snip
from wormjax.dst.criteria._sensitivity import reciprocal_sensitivity, sensitivity
from wormjax.dst.criteria._set import set_
from wormjax.dst.criteria._snip import snip, snip_half, snip_plus
from wormjax.dst.criteria._taylor import taylor

NAMED: dict[str, Callable[..., Criterion]] = {
    "magnitude": magnitude,
    "set": set_,
    "set_": set_,
    "mest": mest,
    "snip": snip,
    "snip_plus": snip_plus,
    "snip_half": snip_half,
    "sensitivity": sensitivity,
    "reciprocal_sensitivity": reciprocal_sensitivity,
    "random": random,
    "taylor": taylor,
    "grad_step": grad_step,
    "running_magnitude": running_magnitude,
    "running_snip": running_snip,
    "grasp": grasp,
}


def criterion_of(drop: str | Criterion | Callable) -> Criterion:
    """Return the criterion that a name, a criterion or a function of `wormjax.dst.Seen` stands for.

    Raises:
      ValueError: an unknown name, or one whose criterion has an argument without a default.
      TypeError: anything else.
    """
    if isinstance(drop, Criterion):
        return drop
    if isinstance(drop, str):
        if drop not in NAMED:
            raise ValueError(
                f"drop={drop!r} is no criterion. Known are {', '.join(map(repr, NAMED))}; a function of "
                "wormjax.dst.Seen will do too."
            )
        made = NAMED[drop]
        for argument in inspect.signature(made).parameters.values():
            if argument.default is argument.empty:
                raise ValueError(
                    f"drop={drop!r} has no default {argument.name}: pass "
                    f"wormjax.dst.criteria.{drop}({argument.name}=...)."
                )
        return made()
    if drop in NAMED.values():
        name = getattr(drop, "__name__", "")
        raise TypeError(f"drop is the function {name} itself: call it, drop={name}(...).")
    if callable(drop):
        return Criterion(getattr(drop, "__name__", type(drop).__name__), drop)
    raise TypeError(f"drop must be a name, a criterion or a function, got {drop!r}.")
