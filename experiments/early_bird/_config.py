"""What the experiment can be told, and its presets."""

import dataclasses
from typing import Any

from experiments.channels import ChannelConfig
from experiments.early_bird._trials import METHODS, Method, Trial


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlyBirdConfig(ChannelConfig):
    """Retrain accuracy against draw epoch, and the ways to train a ticket."""

    prune_ratios: tuple[float, ...] = (0.5,)
    """Fractions of the channels to prune, each watched by a detector of its own."""

    draw_epochs: tuple[int, ...] = (1, 2, 4, 6, 9, 14)
    """Epochs of the dense training at which networks are pruned and retrained, for the curve."""

    methods: tuple[Method, ...] = METHODS
    """How tickets are trained, beside dense training, which always runs. inherit: weights kept, the
    schedule's rest (EB Train). reinit: other random weights, whole schedule. reinit_at_neb: those, the
    schedule's rest. random_ticket: inherit with random channels, as many a layer. one_shot: the trained
    network's mask on the initial weights. snip: channels by sensitivity before training.
    network_slimming: the trained network pruned, then the whole schedule once more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prune_ratios:
            raise ValueError("prune_ratios is empty. Give at least one fraction to prune.")
        for name in ("prune_ratios", "methods"):
            given = getattr(self, name)
            if len(set(given)) < len(given):
                raise ValueError(f"{name} are {', '.join(map(str, given))}. Name each once.")
        rising = all(a < b for a, b in zip((0, *self.draw_epochs), self.draw_epochs, strict=False))
        if not rising or max(self.draw_epochs, default=0) > self.epochs:
            raise ValueError(
                f"draw_epochs are {self.draw_epochs}. Give rising epochs from 1 to epochs ({self.epochs}): before "
                "the first epoch all scales are equal and there is no mask to draw."
            )
        if not self.window <= self.epochs + 1:
            raise ValueError(
                f"window is {self.window}; that many masks fill after {self.window - 1} epochs, and epochs is "
                f"{self.epochs}. Change one of the two."
            )

    @property
    def trials(self) -> list[Trial]:
        """Every retraining: the methods at each ratio, then the curve's draws."""
        methods = [Trial(method, ratio) for ratio in self.prune_ratios for method in self.methods]
        draws = [Trial("draw", r, e) for r in self.prune_ratios for e in self.draw_epochs]
        return [*methods, *draws]


_CIFAR: dict[str, Any] = {
    "data": "cifar10",
    "augment": True,
    "epochs": 160,
    "batch_size": 256,
    "learning_rate": 0.1,
    "weight_decay": 1e-4,
    "milestones": (80, 120),
    "l1": 1e-4,
    "prune_ratios": (0.3, 0.5, 0.7),
    "draw_epochs": (1, 2, 3, 5, 10, 20, 40, 60, 80, 100, 120, 140, 160),
    "checkpoint_seconds": 60.0,
}

PRESETS: dict[str, EarlyBirdConfig] = {
    "digits": EarlyBirdConfig(
        epochs=16, milestones=(11, 14), learning_rate=0.02, l1=1e-4, draw_epochs=(1, 2, 4, 6, 8, 12)
    ),
    "fashion_mnist": EarlyBirdConfig(
        data="fashion_mnist",
        model="fashion",
        epochs=30,
        batch_size=128,
        learning_rate=0.05,
        milestones=(15, 23),
        l1=1e-4,
        prune_ratios=(0.3, 0.5, 0.7),
        draw_epochs=(1, 2, 3, 5, 8, 12, 18, 24),
    ),
    "cifar10_early_bird": EarlyBirdConfig(model="vgg16", **_CIFAR),
    "cifar10_early_bird_preresnet": EarlyBirdConfig(model="preresnet101", **_CIFAR),
}
