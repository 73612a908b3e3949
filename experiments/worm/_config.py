"""What the main job can be told."""

import dataclasses
import math
from fractions import Fraction
from typing import Literal

from experiments._cli import RunConfig
from experiments.training import Recipe

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
class WormConfig(RunConfig):
    """Early-Bird and WORM tickets against dense training: search, draw, prune, retrain."""

    arms: tuple[Arm, ...] = ARMS
    """Which arms to run. dense: no pruning. standard: Early-Bird. gradclip: a constant factor.
    greedy: the mean mask distance as factor. worm: the paper's rule, on gradients. worm_last: the
    same rule on the optimizer's step. worm_random: worm with random masks, a control."""

    first_seed: int = 0
    """The seeds are first_seed, first_seed + 1, ...; arms share seeds, so that they are paired."""

    data: str = "digits"
    """Data set: digits (embedded), fashion_mnist, cifar10, cifar100 (from TFDS_DATA_DIR)."""

    split_seed: int = 0
    """Names the split into train, validation and test, the same for all seeds."""

    limit: int | None = None
    """At most this many images in each split, for quick looks."""

    augment: bool = False
    """Pad by 4, crop at random, flip at random, on the device."""

    model: str = "digits"
    """Name of a model in experiments.models, such as digits, resnet20, vgg16."""

    scale_init: float = 0.5
    """Initial value of the BatchNorm scales."""

    compute: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in; parameters stay float32."""

    epochs: int = 30
    """Epochs of dense training, and of search plus retraining."""

    search_cap: int = 20
    """Epochs after which a search without a ticket has failed."""

    batch_size: int = 32
    """Examples a step."""

    learning_rate: float = 0.01
    """Learning rate before any decay."""

    momentum: float = 0.9
    """Momentum of SGD."""

    weight_decay: float = 0.0
    """L2 decay of every parameter."""

    milestones: tuple[int, ...] = ()
    """Epochs at whose start the learning rate is divided by 10."""

    l1: float = 0.0
    """Strength of the L1 pull on the scales (Early-Bird: 1e-4; WORM: none)."""

    prune_ratio: float = 0.5
    """Fraction of the channels to prune."""

    window: int = 5
    """Masks that the detector compares."""

    epsilon: float = 0.1
    """Mask distance at which the ticket emerges."""

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

    mask_rule: Literal["exact", "reference"] = "exact"
    """Prune an exact count, or by the strict threshold of the papers' code."""

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

    driver: Literal["auto", "loop", "scan"] = "auto"
    """How an epoch runs: a dispatched loop (CPU), one scan with seeds by vmap (accelerators)."""

    checkpoint_seconds: float = 10.0
    """Time between checkpoints; 0 saves after every epoch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.arms:
            raise ValueError("arms is empty. Name at least one of " + ", ".join(ARMS) + ".")
        if "standard" not in self.arms:
            raise ValueError("arms must contain 'standard', which the others are compared with.")
        if len(set(self.arms)) < len(self.arms):
            raise ValueError(f"arms are {', '.join(self.arms)}. Name each arm once.")
        if not 0 <= self.first_seed <= 2**32 - self.seeds:
            raise ValueError(
                f"first_seed is {self.first_seed} and seeds {self.seeds}. Seeds are integers from 0 to "
                "2**32 - 1."
            )
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}. Give at least one example a step.")
        if not 0 <= self.epsilon < 1:
            raise ValueError(f"epsilon is {self.epsilon}. Give a mask distance in [0, 1).")
        if not 0 <= self.margin <= 1 - self.epsilon:
            raise ValueError(
                f"margin is {self.margin}. Give a distance that is not negative and stays, added to "
                f"epsilon ({self.epsilon}), at or below 1."
            )
        if not 0 <= self.l1 < math.inf:
            raise ValueError(f"l1 is {self.l1}. Give a finite strength that is not negative.")
        if not self.checkpoint_seconds >= 0:
            raise ValueError(
                f"checkpoint_seconds is {self.checkpoint_seconds}. Give a time in seconds, 0 for every epoch."
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
    def seed_numbers(self) -> list[int]:
        """The seeds of every arm."""
        return [self.first_seed + i for i in range(self.seeds)]

    @property
    def all_arms(self) -> tuple[str, ...]:
        """Every arm, those of ``chis`` last."""
        return (*self.arms, *(f"gradclip_{chi:g}" for chi in self.chis))

    @property
    def trigger(self) -> Fraction:
        """Mean mask distance below which WORM truncates, as the decimals say."""
        return Fraction(str(self.epsilon)) + Fraction(str(self.margin))

    @property
    def recipe(self) -> Recipe:
        """The optimizer's part of the settings."""
        return Recipe(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule_kind="milestones" if self.milestones else "constant",
            milestones=self.milestones,
        )
