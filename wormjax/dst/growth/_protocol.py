"""What a growth rule is: a score for every inactive entry, of which the highest are switched on."""

import dataclasses
from collections.abc import Callable
from typing import Literal

from jaxtyping import Array, Float

from wormjax.dst._seen import Seen

Shares = Literal["momentum", "magnitude", "gradient", "nonzero"]


@dataclasses.dataclass(frozen=True)
class Growth:
    """A growth rule.

    Attributes:
      name: what errors call it.
      rule: the score of a leaf; the highest inactive entries are switched on.
      needs: fields of `Seen` that the rule reads beside weight and mask.
      by_neuron: give every output a quota by its share of the scores.
      shares: how leaves share what was dropped from all of them (`redistribution`), or None: every leaf
        grows what it lost.
    """

    name: str
    rule: Callable[[Seen], Array]
    needs: tuple[str, ...] = ()
    by_neuron: bool = False
    shares: Shares | None = None

    @property
    def entrywise(self) -> bool:
        """Whether the highest scores grow, and computing them again and again is cheaper than storing them."""
        return not self.by_neuron and "key" not in self.needs

    def __call__(self, seen: Seen) -> Float[Array, "..."]:
        """Return the score of every entry; what is active scores too, and is never compared.

        Raises:
          ValueError: something that it needs is missing.
        """
        seen.require(self.name, self.needs)
        return self.rule(seen)
