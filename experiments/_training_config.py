"""What every experiment that trains image classifiers can be told: seeds, data, model, recipe."""

import dataclasses
from typing import Literal

from experiments._cli import RunConfig
from experiments.training import Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig(RunConfig):
    """Settings that experiments share; each adds its own and may change defaults."""

    first_seed: int = 0
    """The seeds are first_seed, first_seed + 1, ...; arms share seeds, so that they are paired."""

    data: str = "digits"
    """Data set: digits (embedded), fashion_mnist, cifar10, cifar100 (from TFDS_DATA_DIR)."""

    split_seed: int = 0
    """Names the split into train, validation and test, the same for all seeds."""

    limit: int | None = None
    """At most this many images in each split, for quick looks."""

    augment: bool = False
    """Pad by 4, crop at random, flip at random: training images only, on the device."""

    model: str = "digits"
    """Name of a model in experiments.models, such as digits, resnet20, vgg16."""

    epochs: int = 30
    """Epochs of a whole training."""

    batch_size: int = 32
    """Examples a step."""

    learning_rate: float = 0.01
    """Learning rate before any decay."""

    momentum: float = 0.9
    """Momentum of SGD."""

    weight_decay: float = 0.0
    """L2 decay of every parameter."""

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
        if not self.checkpoint_seconds >= 0:
            raise ValueError(
                f"checkpoint_seconds is {self.checkpoint_seconds}. Give a time in seconds, 0 for every epoch."
            )

    def each_once(self, field: str) -> None:
        """Refuse an empty list of values, or one that names a value twice.

        Raises:
          ValueError: the field's values are so.
        """
        values = getattr(self, field)
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{field} are {values}. Name at least one, each once.")

    def falling_recipe(self, *, nesterov: bool = False) -> Recipe:
        """Return the optimizer's part of the settings; the rate falls tenfold at 1/2 and 3/4 of the epochs."""
        return Recipe(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            nesterov=nesterov,
            weight_decay=self.weight_decay,
            milestones=tuple(sorted({self.epochs // 2, 3 * self.epochs // 4} - {0})),
        )

    @property
    def seed_numbers(self) -> list[int]:
        """The seeds of every arm."""
        return [self.first_seed + i for i in range(self.seeds)]
