"""What the comparison of criteria can be told, and its presets."""

import dataclasses
from typing import Literal, NamedTuple

from experiments._training_config import TrainingConfig
from experiments.training import Recipe

Criterion = Literal[
    "magnitude",
    "set",
    "mest",
    "snip",
    "reciprocal_sensitivity",
    "sensitivity",
    "taylor",
    "random",
]
Growth = Literal["random", "gradient", "momentum"]
Control = Literal["dense", "static"]


class Arm(NamedTuple):
    """One way to train.

    Attributes:
      criterion: what is dropped; None for a control.
      growth: what grows; None for a control.
      density: of the kernels; 1 for dense training.
    """

    criterion: str | None
    growth: str | None
    density: float

    @property
    def name(self) -> str:
        """What records and checkpoints call it."""
        if self.density == 1 and self.criterion is None:
            return "dense"
        kind = f"{self.criterion}-{self.growth}" if self.criterion else "static"
        return f"{kind}-{self.density:g}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DstConfig(TrainingConfig):
    """Criteria x growth x densities against static sparse and dense training."""

    criteria: tuple[Criterion, ...] = (
        "magnitude",
        "set",
        "mest",
        "snip",
        "reciprocal_sensitivity",
        "random",
    )
    """What is dropped: each of these, with every growth and density."""

    growths: tuple[Growth, ...] = ("random", "gradient")
    """What grows in its place."""

    densities: tuple[float, ...] = (0.05, 0.1, 0.2)
    """Fractions of the kernels' weights that are kept."""

    controls: tuple[Control, ...] = ("dense", "static")
    """dense: no pruning. static: sparse, and the connections never move."""

    model: str = "lenet300"
    """Name of a model in experiments.models."""

    epochs: int = 20
    """Epochs of every training."""

    batch_size: int = 64
    """Examples a step."""

    learning_rate: float = 0.05
    """Learning rate before any decay."""

    momentum: float = 0.9
    """Nesterov momentum of SGD."""

    weight_decay: float = 5e-4
    """L2 decay of every parameter."""

    distribution: Literal["erk", "er", "uniform"] = "erk"
    """How the density is spread over the layers."""

    every: int = 20
    """Optimizer steps from one mask update to the next."""

    stop: float = 0.75
    """Masks are updated in this part of the training, and never at its last step."""

    drop_fraction: float = 0.5
    """Fraction of a layer's connections that the first update drops; it falls along a cosine to 0.005."""

    order: Literal["after", "before", "skip"] = "after"
    """Update masks, then take the step with the same gradient; the other way; or instead of it. One order for all
    criteria: in the released code it differs between them."""

    mest_gamma: float = 1.0
    """MEST's weight of the gradient."""

    legacy_selection: bool = False
    """Report the epoch of the best TEST accuracy, as released code does where its validation set is its test
    set. Numbers are too good; for comparison only."""

    similarity_density: float = 0.1
    """At this density the criteria are shown the same weights, masks and gradients: before training, and at the
    end of the first criterion's run with the last growth."""

    driver: Literal["auto", "loop", "scan"] = "scan"
    """How an epoch runs: one compiled scan, or a dispatched loop (convolutions on CPU). Seeds run one after another, so
    that masks are only updated when it is time."""

    checkpoint_seconds: float = 60.0
    """Time between checkpoints inside a training; 0 saves after every epoch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, values in (
            ("criteria", self.criteria),
            ("growths", self.growths),
            ("densities", self.densities),
        ):
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{field} are {values}. Name at least one, each once.")
        if "static" not in self.controls:
            raise ValueError("controls must contain 'static', which every arm is compared with.")
        for density in self.densities:
            if not 0 < density < 1:
                raise ValueError(
                    f"densities contain {density}. A density lies between 0 and 1; the dense control has density 1."
                )
        if self.similarity_density not in self.densities:
            raise ValueError(
                f"similarity_density is {self.similarity_density}, and densities are {self.densities}. Choose one "
                "of them."
            )
        if not 0 < self.drop_fraction < 1:
            raise ValueError(
                f"drop_fraction is {self.drop_fraction}. Give a fraction between 0 and 1."
            )
        if not 0 < self.stop <= 1:
            raise ValueError(f"stop is {self.stop}. Give a part of the training in (0, 1].")
        if self.every < 1:
            raise ValueError(f"every is {self.every}. Give at least one step between updates.")

    @property
    def arms(self) -> list[Arm]:
        """All arms, controls first; arms of one program stand together."""
        controls = [Arm(None, None, 1.0)] if "dense" in self.controls else []
        controls += [Arm(None, None, d) for d in self.densities]
        moving = [Arm(c, g, d) for c in self.criteria for g in self.growths for d in self.densities]
        return controls + moving

    @property
    def compared(self) -> Arm:
        """The arm at whose start and end the criteria are shown the same state."""
        return Arm(self.criteria[0], self.growths[-1], self.similarity_density)

    @property
    def recipe(self) -> Recipe:
        """The optimizer's part of the settings; the rate falls tenfold at 1/2 and 3/4 of the epochs."""
        milestones = tuple(sorted({self.epochs // 2, 3 * self.epochs // 4} - {0}))
        return Recipe(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            nesterov=self.momentum > 0,
            weight_decay=self.weight_decay,
            milestones=milestones,
        )


_D11 = (0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
_C5: tuple[Criterion, ...] = ("magnitude", "mest", "snip", "set", "reciprocal_sensitivity")

# What Fantastic Weights' run specifications share. Here and not there: counts are exact, masks are updated in the first
# three quarters of a training (there to its last step), one order of mask update and step for all criteria, the
# momentum of new connections starts at zero, and dense and sparse training have one recipe.
_PAPER = DstConfig(
    criteria=_C5,
    densities=_D11,
    seeds=5,
    augment=True,
    batch_size=128,
    learning_rate=0.01,
    every=800,
    driver="auto",
)

PRESETS: dict[str, DstConfig] = {
    "digits": DstConfig(),
    "mlp": dataclasses.replace(_PAPER, data="cifar10", model="mlp_cifar", epochs=100),
    "convnet": dataclasses.replace(_PAPER, data="cifar10", model="convnet", epochs=100),
    "resnet56": dataclasses.replace(
        _PAPER,
        data="cifar10",
        model="resnet56",
        epochs=200,
        learning_rate=0.1,
        weight_decay=1e-4,
    ),
    "resnet56_cifar100": dataclasses.replace(
        _PAPER,
        data="cifar100",
        model="resnet56",
        epochs=200,
        learning_rate=0.1,
        weight_decay=1e-4,
    ),
    "vgg16": dataclasses.replace(
        _PAPER, data="cifar100", model="vgg16", epochs=200, weight_decay=1e-4
    ),
    "lenet": dataclasses.replace(
        _PAPER, data="fashion_mnist", model="lenet5", epochs=100, augment=False
    ),
}
