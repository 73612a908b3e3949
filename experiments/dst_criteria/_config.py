"""What the comparison of criteria can be told, and its presets."""

import dataclasses
from typing import Any, Literal, NamedTuple

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

    scope: Literal["leaf", "global"] = "leaf"
    """What a criterion compares: the weights of a layer, or of the whole network; growth keeps every layer's count."""

    released: bool = False
    """Train as the study's released code: first masks drawn entry by entry, masks updated to the last step, before or
    after the optimizer's step by the criterion, dense momentum kept. order and stop are then not asked."""

    dense_batch_size: int | None = None
    """Batch of the dense control, where it is another: the released runs of ResNet-56 on CIFAR-100 are so."""

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
        for field in ("criteria", "growths", "densities"):
            self.each_once(field)
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
        if self.dense_batch_size is not None and self.dense_batch_size < 1:
            raise ValueError(
                f"dense_batch_size is {self.dense_batch_size}. Give at least one example a step, or nothing."
            )
        if self.every < 1:
            raise ValueError(f"every is {self.every}. Give at least one step between updates.")

    @property
    def arms(self) -> list[Arm]:
        """All arms, controls first; arms of one program stand together."""
        controls = [Arm(None, None, 1.0)] if "dense" in self.controls else []
        controls += [Arm(None, None, d) for d in self.densities]
        moving = [Arm(c, g, d) for c in self.criteria for g in self.growths for d in self.densities]
        return controls + moving

    def batch_of(self, arm: Arm) -> int:
        """Examples a step of an arm."""
        if arm.name == "dense" and self.dense_batch_size is not None:
            return self.dense_batch_size
        return self.batch_size

    @property
    def last_update(self) -> float:
        """The part of the training in which masks are updated."""
        return 1.0 if self.released else self.stop

    @property
    def compared(self) -> Arm:
        """The arm at whose start and end the criteria are shown the same state."""
        return Arm(self.criteria[0], self.growths[-1], self.similarity_density)

    @property
    def recipe(self) -> Recipe:
        """The optimizer's part of the settings; the rate falls tenfold at 1/2 and 3/4 of the epochs."""
        return self.falling_recipe(nesterov=self.momentum > 0)


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

_MLP = dataclasses.replace(_PAPER, data="cifar10", model="mlp_cifar", epochs=100)
_CONVNET = dataclasses.replace(_MLP, model="convnet")
_RESNET56 = dataclasses.replace(
    _MLP, model="resnet56", epochs=200, learning_rate=0.1, weight_decay=1e-4
)
_RESNET56_CIFAR100 = dataclasses.replace(_RESNET56, data="cifar100")
_LENET = dataclasses.replace(_MLP, data="fashion_mnist", model="lenet5", augment=False)

# Its further studies: how often masks are updated (one run for each --every), criteria over the whole network, the
# gradient's weight in MEST (one run for each --mest_gamma), the criterion that it found worse, a larger batch.
_OFTEN: dict[str, Any] = {"every": 100, "growths": ("random",)}
_PERIOD: dict[str, Any] = {"densities": (0.1, 0.2)}
_GLOBAL: dict[str, Any] = {
    "scope": "global",
    "criteria": ("reciprocal_sensitivity", "magnitude", "snip", "mest"),
    **_OFTEN,
}

PRESETS: dict[str, DstConfig] = {
    "digits": DstConfig(),
    "mlp": _MLP,
    "convnet": _CONVNET,
    "resnet56": _RESNET56,
    "resnet56_cifar100": _RESNET56_CIFAR100,
    "resnet56_cifar100_released": dataclasses.replace(
        _RESNET56_CIFAR100, released=True, dense_batch_size=256
    ),
    "vgg16": dataclasses.replace(_RESNET56_CIFAR100, model="vgg16", learning_rate=0.01),
    "lenet": _LENET,
    "mlp_period": dataclasses.replace(_MLP, **_PERIOD),
    "convnet_period": dataclasses.replace(_CONVNET, **_PERIOD),
    "resnet56_period": dataclasses.replace(_RESNET56, **_PERIOD),
    "mlp_global": dataclasses.replace(_MLP, densities=(0.1, 0.15, 0.2), **_GLOBAL),
    "resnet56_global": dataclasses.replace(_RESNET56, densities=(0.05, 0.1, 0.15), **_GLOBAL),
    "mlp_gamma": dataclasses.replace(_MLP, criteria=("mest",), **_OFTEN),
    "mlp_sensitivity": dataclasses.replace(_MLP, criteria=("sensitivity",), every=100),
    "lenet_large_batch": dataclasses.replace(_LENET, batch_size=1024, every=100, seeds=3),
}
