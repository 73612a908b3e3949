"""What the main job can be told."""

import dataclasses
from fractions import Fraction
from typing import Literal

from experiments.channels import ChannelConfig

Arm = Literal["dense", "standard", "gradclip", "greedy", "worm", "worm_last", "worm_random"]
ARMS: tuple[Arm, ...] = (
    "dense",
    "standard",
    "gradclip",
    "greedy",
    "worm",
    "worm_last",
    "worm_random",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WormConfig(ChannelConfig):
    """Early-Bird and WORM tickets against dense training: search, draw, prune, retrain."""

    arms: tuple[Arm, ...] = ARMS
    """Which arms to run. dense: no pruning. standard: Early-Bird. gradclip: a constant factor.
    greedy: the mean mask distance as factor. worm: the paper's rule, on gradients. worm_last: the
    same rule on the optimizer's step. worm_random: worm with random masks, a control."""

    search_cap: int = 20
    """Epochs after which a search without a ticket has failed."""

    prune_ratio: float = 0.5
    """Fraction of the channels to prune."""

    margin: float = 0.05
    """WORM truncates from a mean distance below epsilon + margin on."""

    factor: float = 0.003
    """WORM's truncation factor."""

    chi: float = 0.1
    """gradclip's constant factor."""

    chis: tuple[float, ...] = ()
    """Further constant factors, each an arm of its own: gradclip_0.5 for 0.5."""

    frozen: Literal["newest", "window"] = "newest"
    """Truncate what the newest mask prunes, or what every mask of the window does."""

    prune_after: Literal["eb_mask", "magnitude_per_tensor"] = "eb_mask"
    """Prune the channels that the ticket does not keep, or, as the WORM paper's code does, prune_ratio of
    the entries of every weight, bias and BatchNorm scale by magnitude, tensor by tensor."""

    recover: Literal["masked", "dense"] = "masked"
    """Retrain under the masks, or, as the WORM paper's code does, let pruned entries grow again."""

    target: float = 0.9
    """Validation accuracy that retraining is timed to restore."""

    retrain: Literal["masked", "shrunk"] = "masked"
    """Retrain the full network with the pruned channels masked, or the network without them, which
    compiles anew for every ticket and trains seed by seed. Both give the same, but for rounding."""

    shrunk_optimizer: Literal["reset", "carried"] = "reset"
    """With --retrain shrunk: a fresh optimizer, as masked retraining has it, or the search's
    momentum cut like the weights."""

    speed_rounds: int = 30
    """How often to time one ticket of each arm as dense, masked, shrunk and natively narrow network,
    after its search; 0 leaves that out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.arms:
            raise ValueError("arms is empty. Name at least one of " + ", ".join(ARMS) + ".")
        if "standard" not in self.arms:
            raise ValueError("arms must contain 'standard', which the others are compared with.")
        if len(set(self.arms)) < len(self.arms):
            raise ValueError(f"arms are {', '.join(self.arms)}. Name each arm once.")
        if not 0 <= self.margin <= 1 - self.epsilon:
            raise ValueError(
                f"margin is {self.margin}. Give a distance that is not negative and stays, added to "
                f"epsilon ({self.epsilon}), at or below 1."
            )
        if not self.window <= self.search_cap + 1 <= self.epochs:
            raise ValueError(
                f"search_cap is {self.search_cap}; a window of {self.window} masks fills after "
                f"{self.window - 1} epochs, and epochs ({self.epochs}) must be longer than the "
                "search. Change one of the three."
            )
        if self.retrain == "masked" and self.shrunk_optimizer == "carried":
            raise ValueError(
                "shrunk_optimizer is 'carried' and retrain 'masked'. A masked retraining begins with a fresh "
                "optimizer; pass --retrain shrunk to carry the search's."
            )
        if self.retrain == "shrunk" and (self.prune_after, self.recover) != ("eb_mask", "masked"):
            raise ValueError(
                f"retrain is 'shrunk', prune_after {self.prune_after!r} and recover {self.recover!r}. Only a "
                "ticket's channels can be removed, and what is removed does not grow again: pass "
                "--prune_after eb_mask --recover masked, or --retrain masked."
            )
        if len({f"{chi:g}" for chi in self.chis}) < len(self.chis):
            raise ValueError(f"chis are {', '.join(map(str, self.chis))}. Name each factor once.")
        if self.speed_rounds < 0:
            raise ValueError(
                f"speed_rounds is {self.speed_rounds}. Give a number of rounds, 0 for no timing."
            )
        if not 0 < self.target <= 1:
            raise ValueError(f"target is {self.target}. Give an accuracy in (0, 1].")

    @property
    def all_arms(self) -> tuple[str, ...]:
        """Every arm, those of ``chis`` last."""
        return (*self.arms, *(f"gradclip_{chi:g}" for chi in self.chis))

    @property
    def trigger(self) -> Fraction:
        """Mean mask distance below which WORM truncates, as the decimals say."""
        return Fraction(str(self.epsilon)) + Fraction(str(self.margin))
