"""What a drop criterion is: a score for every entry, and a rule which of them stay."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from wormjax.dst._seen import Seen

Rule = Callable[[Seen], Array]


@runtime_checkable
class Choose(Protocol):
    """Selection of an exact number of entries from several leaves taken together."""

    def __call__(
        self, scores: Sequence[Float[Array, "..."]], kept: Int[Array, ""]
    ) -> list[Bool[Array, "..."]]:
        """Return masks of the ``kept`` highest scores, ties to the lower index."""


@runtime_checkable
class Keep(Protocol):
    """Which of the active units stay."""

    def __call__(
        self,
        scores: Sequence[Float[Array, "..."]],
        active: Sequence[Bool[Array, "..."]],
        kept: Int[Array, ""],
        dropped: Int[Array, ""],
        choose: Choose,
    ) -> list[Bool[Array, "..."]]:
        """Return the masks without the ``dropped`` units; ``kept`` remain."""


def only(active: Bool[Array, "..."], scores: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the scores where ``active``, and below all of them elsewhere: no epsilon tells the two apart."""
    return jnp.where(active, scores, jnp.array(-jnp.inf, scores.dtype))


def keep_highest(
    scores: Sequence[Array],
    active: Sequence[Array],
    kept: Array,
    dropped: Array,
    choose: Choose,
) -> list[Array]:
    """Drop the lowest scores."""
    del dropped
    return choose([only(a, s) for a, s in zip(active, scores, strict=True)], kept)


@dataclasses.dataclass(frozen=True)
class Criterion:
    """A drop criterion.

    Attributes:
      name: what errors call it.
      rule: the score of a leaf; the lowest go first, unless ``keep`` says otherwise.
      needs: fields of `Seen` that the rule reads beside weight and mask.
      keep: which units stay.
      running: coefficient of an average of the rule over the steps since the last update, or None.
      segmented: whether ``keep`` works in each of several segments (N:M, constant fan-in).
    """

    name: str
    rule: Rule
    needs: tuple[str, ...] = ()
    keep: Keep = keep_highest
    running: float | None = None
    segmented: bool = True

    @property
    def entrywise(self) -> bool:
        """Whether the highest scores stay, and computing them again and again is cheaper than storing them."""
        return self.keep is keep_highest and "key" not in self.needs

    def __call__(self, seen: Seen) -> Float[Array, "..."]:
        """Return the score of every entry; what is inactive scores too, and is never compared.

        Raises:
          ValueError: something that it needs is missing.
        """
        if self.running is not None:
            seen.require(self.name, ("running",))
            assert seen.running is not None
            return seen.running
        return self.instant(seen)

    def instant(self, seen: Seen) -> Float[Array, "..."]:
        """Return the rule's value at this step, which a running criterion averages."""
        seen.require(self.name, self.needs)
        return self.rule(seen)
