"""The ways to train a ticket: where its mask and its weights come from, and what they cost."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

Method = Literal[
    "inherit",
    "reinit",
    "reinit_at_neb",
    "random_ticket",
    "one_shot",
    "snip",
    "network_slimming",
]
METHODS: tuple[Method, ...] = get_args(Method)


class Rule(NamedTuple):
    """What distinguishes a way to train a ticket.

    Attributes:
      drawn: when, along the dense training: when the ticket emerges, at its end, before it, or at a given epoch.
      channels: ``"scales"``: those that the scales keep. ``"random"``: as many of each layer. ``"snip"``: those that
        the loss is most sensitive to.
      weights: ``"drawn"``: of the dense network then. ``"initial"``: of the dense network before training.
        ``"fresh"``: random ones of another key.
      joins: goes on in the schedule at the epoch of the draw; otherwise it runs the whole schedule.
    """

    drawn: Literal["ticket", "end", "start", "epoch"]
    channels: Literal["scales", "random", "snip"]
    weights: Literal["drawn", "initial", "fresh"]
    joins: bool


RULES: dict[str, Rule] = {
    "inherit": Rule("ticket", "scales", "drawn", joins=True),
    "reinit": Rule("ticket", "scales", "fresh", joins=False),
    "reinit_at_neb": Rule("ticket", "scales", "fresh", joins=True),
    "random_ticket": Rule("ticket", "random", "drawn", joins=True),
    "one_shot": Rule("end", "scales", "initial", joins=False),
    "snip": Rule("start", "snip", "initial", joins=False),
    "network_slimming": Rule("end", "scales", "drawn", joins=False),
    "draw": Rule("epoch", "scales", "drawn", joins=True),
}


@dataclasses.dataclass(frozen=True)
class Trial:
    """One retraining.

    Attributes:
      method: a name among the rules; ``"draw"`` for a point of the curve.
      ratio: fraction of the channels that is pruned.
      epoch: of a draw.
    """

    method: str
    ratio: float
    epoch: int | None = None

    @property
    def name(self) -> str:
        """Its name in records and folders: ``inherit-0.5``, ``draw4-0.5``."""
        return f"{self.method}{'' if self.epoch is None else self.epoch}-{self.ratio:g}"

    @property
    def rule(self) -> Rule:
        """Where its mask and weights come from."""
        return RULES[self.method]

    def drawn_at(self, emerged_at: Sequence[int | None], epochs: int) -> list[int | None]:
        """Return for each seed the dense epochs before the draw; None where no ticket emerged.

        Args:
          emerged_at: for each seed the epoch of its ticket at this ratio.
          epochs: of the dense training.
        """
        if self.rule.drawn == "ticket":
            return list(emerged_at)
        fixed = {"end": epochs, "start": 0, "epoch": self.epoch}[self.rule.drawn]
        return [fixed] * len(emerged_at)

    def start(self, drawn_at: int) -> int:
        """Return the epoch of the schedule at which its training begins."""
        return drawn_at if self.rule.joins else 0


def training_cost(dense: float, pruned: float, drawn_at: int, start: int, epochs: int) -> float:
    r"""Return what search and retraining cost together, in the unit of the two costs.

    .. math:: C = e_\text{drawn}\, C_\text{dense} + (E - e_\text{start})\, C_\text{pruned}

    Args:
      dense: cost of one epoch of the dense network.
      pruned: cost of one epoch of the shrunk network.
      drawn_at: dense epochs before the draw.
      start: the epoch of the schedule at which retraining begins.
      epochs: of the whole schedule.

    Example:
      >>> training_cost(1.0, 0.5, drawn_at=10, start=10, epochs=160)
      85.0

    References:
      You et al., `Drawing Early-Bird Tickets <https://arxiv.org/abs/1909.11957>`_, 2020
    """
    return drawn_at * dense + (epochs - start) * pruned
