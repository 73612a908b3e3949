"""What every experiment on channel tickets can be told beside what all can: scales, recipe, detector."""

import dataclasses
import math
from typing import Literal

import optax

import wormjax as wj
from experiments._training_config import TrainingConfig
from experiments.training import Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelConfig(TrainingConfig):
    """Settings that experiments on channel tickets share; each adds its own."""

    scale_init: float = 0.5
    """Initial value of the BatchNorm scales."""

    compute: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in; parameters stay float32."""

    milestones: tuple[int, ...] = ()
    """Epochs at whose start the learning rate is divided by 10."""

    l1: float = 0.0
    """Strength of the L1 pull on the scales (Early-Bird: 1e-4; WORM: none)."""

    window: int = 5
    """Masks that the detector compares."""

    epsilon: float = 0.1
    """Mask distance at which the ticket emerges."""

    mask_rule: Literal["exact", "reference", "protective"] = "exact"
    """Prune an exact count, or by the strict threshold of the papers' code."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.epsilon < 1:
            raise ValueError(f"epsilon is {self.epsilon}. Give a mask distance in [0, 1).")
        if not 0 <= self.l1 < math.inf:
            raise ValueError(f"l1 is {self.l1}. Give a finite strength that is not negative.")

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
