"""What decides a mask update and no array can hold."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from jaxtyping import Array

from wormjax.dst._followers import Treatment
from wormjax.dst._grow_init import GrowInit
from wormjax.dst._normalisation import Normalisation, Rescale
from wormjax.dst._patterns import Pattern
from wormjax.dst._ramps import Ramp
from wormjax.dst._timing import Timing
from wormjax.dst.criteria import Criterion
from wormjax.dst.growth import Growth

Scope = Literal["leaf", "global"]
Order = Literal["after", "before", "skip"]
PatternRule = Pattern | Callable[[str, Any], Pattern]


@dataclasses.dataclass(frozen=True, eq=False)
class Settings:
    """The arguments of `wormjax.sparse_training`, checked; hashed by identity, one for each transformation."""

    drop: Criterion
    grow: Growth | None
    schedule: Callable[..., Array]
    timing: Timing
    scope: Scope
    order: Order
    allow_regrow_dropped: bool
    zero_on_drop: bool
    grow_init: GrowInit | None
    opt_state: Treatment
    mask_gradients: bool
    rounding: Literal["ceil", "floor"]
    min_kept: int
    normalize: Normalisation | None
    rescale: Rescale | None
    accumulate: Literal["mean"] | float | None
    ramp: Ramp | None
    ramp_scope: Scope
    straight_through: bool
    track_fired: bool
    packed: bool
    pattern: PatternRule

    @property
    def changes_values(self) -> bool:
        """Whether a mask update sets weights to something else than what they were or zero."""
        return self.zero_on_drop or self.grow_init is not None or self.rescale is not None

    @property
    def needs(self) -> set[str]:
        """What criterion and growth read."""
        return {*self.drop.needs, *(self.grow.needs if self.grow else ())}

    def pattern_of(self, name: str, leaf: Any) -> Pattern:
        """Return the pattern of a leaf."""
        layout = hasattr(self.pattern, "layout")
        return self.pattern if layout else self.pattern(name, leaf)  # type: ignore[operator,return-value]
