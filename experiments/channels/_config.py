"""What every experiment on channel tickets can be told: seeds, data, model, recipe, detector."""

import dataclasses
import math
from typing import Literal

import optax

import wormjax as wj
from experiments._cli import RunConfig
from experiments.training import Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelConfig(RunConfig):
    """Settings that experiments on channel tickets share; each adds its own."""

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

    window: int = 5
    """Masks that the detector compares."""

    epsilon: float = 0.1
    """Mask distance at which the ticket emerges."""

    mask_rule: Literal["exact", "reference"] = "exact"
    """Prune an exact count, or by the strict threshold of the papers' code."""

    driver: Literal["auto", "loop", "scan"] = "auto"
    """How an epoch runs: a dispatched loop (CPU), one scan with seeds by vmap (accelerators)."""

    checkpoint_seconds: float = 10.0
    """Time between checkpoints; 0 saves after every epoch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.first_seed <= 2**32 - self.seeds:
            raise ValueError(
                f"first_seed is {self.first_seed} and seeds {self.seeds}. Seeds are integers from 0 to "
                "2**32 - 1."
            )
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}. Give at least one example a step.")
        if not 0 <= self.epsilon < 1:
            raise ValueError(f"epsilon is {self.epsilon}. Give a mask distance in [0, 1).")
        if not 0 <= self.l1 < math.inf:
            raise ValueError(f"l1 is {self.l1}. Give a finite strength that is not negative.")
        if not self.checkpoint_seconds >= 0:
            raise ValueError(
                f"checkpoint_seconds is {self.checkpoint_seconds}. Give a time in seconds, 0 for every epoch."
            )

    @property
    def seed_numbers(self) -> list[int]:
        """The seeds of every arm."""
        return [self.first_seed + i for i in range(self.seeds)]

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

    def optimizer(self, steps: int) -> optax.GradientTransformationExtraArgs:
        """Return the chain of L1 pull, weight decay and momentum, for ``steps`` steps an epoch."""
        pull = [wj.l1_pull(self.l1)] if self.l1 else []
        return optax.chain(*pull, self.recipe.optimizer(steps))
