"""What the comparison of structured tickets can be told, and its presets."""

import dataclasses
from typing import Literal

from experiments._training_config import TrainingConfig
from experiments.training import Recipe
from wormjax.lottery import RegroupSettings
from wormjax.lottery._partition import Partitioner

Method = Literal["refill", "refill_plus", "regroup", "random", "one_shot"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TicketConfig(TrainingConfig):
    """Iterative pruning, and at some of its rounds every method."""

    methods: tuple[Method, ...] = ("refill", "refill_plus", "regroup", "random", "one_shot")
    """How a mask is made structured. refill: channels by the L1 norm of their kept weights. refill_plus: more of them.
    regroup: row blocks. random: as many channels as refill, drawn. one_shot: refill of a mask pruned at once."""

    rounds: int = 5
    """Rounds of iterative pruning."""

    structured_every: int = 1
    """At every so many rounds the mask is made structured."""

    rate: float = 0.2
    """Fraction of the remaining weights that a round removes."""

    rewind: str = "0.05"
    """Where weights go back to: a fraction of the training, steps (1000it) or epochs (8ep)."""

    schedule_from: Literal["rewind_step", "zero"] = "rewind_step"
    """Whether a rewound network goes on in the schedule, or begins it again."""

    prune_stem: bool = True
    """Prune the first convolution (the paper does in VGG, and nowhere else)."""

    rho: float = 0.2
    """Fraction of the pruned channels that refill_plus fills back."""

    parts: int | None = 4
    """Row groups of a layer in regroup; None for one for each 32 channels."""

    partitioner: Partitioner = "jaccard"
    """What divides the rows: jaccard, mtkahypar (to be installed) or random."""

    tolerance: float = 1.0
    """A ticket wins when it is at most so many points of validation accuracy below dense training."""

    model: str = "digits"
    """Name of a model in experiments.models."""

    epochs: int = 8
    """Epochs of the dense training."""

    batch_size: int = 64
    """Examples a step."""

    learning_rate: float = 0.05
    """Learning rate before any decay; it falls tenfold at 1/2 and 3/4 of the epochs."""

    momentum: float = 0.9
    """Momentum of SGD."""

    weight_decay: float = 1e-4
    """L2 decay of every parameter."""

    timing_batches: tuple[int, ...] = (64,)
    """Batch sizes at which the first seed's networks are timed."""

    save_epochs: int = 20
    """Every training is saved after so many epochs, too, and goes on there after a kill."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.each_once("methods")
        if not 1 <= self.structured_every <= self.rounds:
            raise ValueError(
                f"structured_every is {self.structured_every}, and there are {self.rounds} rounds. Give at least 1, "
                "and no more than rounds."
            )
        if self.tolerance < 0:
            raise ValueError(f"tolerance is {self.tolerance}. Give points of accuracy, 0 or more.")
        if self.save_epochs < 1:
            raise ValueError(f"save_epochs is {self.save_epochs}. Give at least one epoch.")
        if not self.timing_batches or min(self.timing_batches) < 1:
            raise ValueError(f"timing_batches are {self.timing_batches}. Give sizes of at least 1.")

    @property
    def structured_rounds(self) -> list[int]:
        """The rounds whose masks are made structured."""
        return list(range(self.structured_every, self.rounds + 1, self.structured_every))

    @property
    def regrouping(self) -> RegroupSettings:
        """How blocks are made."""
        return RegroupSettings(parts=self.parts, partitioner=self.partitioner)

    @property
    def recipe(self) -> Recipe:
        """The optimizer's part of the settings; the rate falls tenfold at 1/2 and 3/4 of the epochs."""
        return self.falling_recipe()


# "Coarsening the Granularity", Table 1: 160 epochs, 0.1 and a tenth of it from 80 and from 120 on, batches of 128.
# Weights go back to epoch 8, 5% of the training, as the text says; its code takes epoch 16 and begins the schedule
# again.
_PAPER = TicketConfig(
    data="cifar10",
    augment=True,
    rounds=10,
    structured_every=1,
    rewind="8ep",
    prune_stem=False,
    parts=None,
    epochs=160,
    batch_size=128,
    learning_rate=0.1,
    tolerance=0.0,
    timing_batches=(1, 64),
)

PRESETS: dict[str, TicketConfig] = {
    "digits": TicketConfig(),
    "wrn32_2": dataclasses.replace(_PAPER, model="wrn32_2"),
    "resnet18": dataclasses.replace(_PAPER, model="resnet18"),
    "mobilenet": dataclasses.replace(_PAPER, model="mobilenet"),
    "vgg16": dataclasses.replace(_PAPER, model="vgg16", prune_stem=True, weight_decay=2e-4),
}
