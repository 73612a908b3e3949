"""What the comparison of foresight methods can be told, and its presets."""

import dataclasses
from typing import Literal, NamedTuple

from experiments._training_config import TrainingConfig
from experiments.training import Recipe

MethodName = Literal[
    "random",
    "magnitude",
    "snip",
    "iter_snip",
    "grasp",
    "synflow",
    "synflow_l2",
    "ntk_sap",
    "px",
    "px_gated",
    "px_exact",
    "px_ref_head",
    "px_v2024",
    "px_jan2025",
]
Ablation = Literal["none", "shuffled", "reinitialised", "inverted", "dense_head"]


class Arm(NamedTuple):
    """One way to prune.

    Attributes:
      method: its name; None for dense training.
      density: of the kernels; 1 for dense training.
    """

    method: str | None
    density: float

    @property
    def name(self) -> str:
        """What records and checkpoints call it."""
        return "dense" if self.method is None else f"{self.method}-{self.density:.4g}"


DENSE = Arm(None, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForesightConfig(TrainingConfig):
    """Methods x densities against dense training and random pruning."""

    methods: tuple[MethodName, ...] = (
        "random",
        "magnitude",
        "snip",
        "iter_snip",
        "grasp",
        "synflow",
        "synflow_l2",
        "ntk_sap",
        "px",
        "px_gated",
    )
    """How to prune: each of these to every density. random is the control and must be among them."""

    densities: tuple[float, ...] = (0.5, 0.2, 0.1, 0.05, 0.02)
    """Fractions of the kernels' weights that are kept."""

    rounds: int = 0
    """Rounds of scoring; 0 for those of each method's paper (1, 20 or 100)."""

    schedule: Literal["exponential", "linear", "expinv"] = "exponential"
    """How the density falls from round to round."""

    scope: Literal["global", "leaf"] = "global"
    """Rank all weights together, or those of each kernel."""

    ablation: Ablation = "none"
    """A sanity check, for all methods: shuffled moves each kernel's kept weights about, reinitialised draws new weights
    after pruning, inverted prunes the best, dense_head leaves the classifier whole."""

    per_class: int = 10
    """Training images of each class in the pruning set."""

    subset: Literal["random_balanced", "first_balanced", "random"] = "random_balanced"
    """How the pruning set is drawn."""

    prune_seed: int = 0
    """Names the pruning set, the same for all methods and seeds."""

    prune_batch: int = 256
    """Images that a score sees at once."""

    pretrain_data: str = ""
    """Train on this data set first, prune the trained weights for `data`, and go on from them with a new head."""

    pretrain_epochs: int = 0
    """Epochs of that training."""

    pretrain_milestones: tuple[int, ...] = ()
    """Epochs of it at whose start the learning rate is divided by 10; none for a cosine."""

    pretrain_limit: int | None = None
    """At most this many of its images in each split."""

    enlarge: int = 0
    """Enlarge all images to this many pixels of a side, on the device, after they are augmented; 0 leaves them."""

    workers: int = 0
    """Processes that decode images of sets that are streamed from their files; 0 for threads of this one."""

    shortcut: Literal["A", "B"] = "A"
    """Shortcuts of a ResNet: zero channels, or projections, which are pruned too."""

    model: str = "lenet300"
    """Name of a model in experiments.models."""

    epochs: int = 12
    """Epochs of every training."""

    batch_size: int = 64
    """Examples a step."""

    data: str = "digits"
    """Data set: digits (embedded), fashion_mnist, cifar10, cifar100; tiny_imagenet and imagenet are streamed."""

    learning_rate: float = 0.1
    """Learning rate before any decay."""

    nesterov: bool = False
    """Nesterov's momentum."""

    milestones: tuple[int, ...] = (6, 9)
    """Epochs at whose start the learning rate is divided by 10."""

    weight_decay: float = 1e-4
    """L2 decay of every parameter."""

    spectrum_density: float = 0.05
    """At this density the tangent kernels of the first seed's tickets are compared; 0 for none."""

    spectrum_per_class: int = 1
    """Images of each class that the kernels are of."""

    driver: Literal["auto", "loop", "scan"] = "scan"
    """How an epoch runs: one compiled scan, or a dispatched loop (convolutions on CPU)."""

    checkpoint_seconds: float = 60.0
    """Time between checkpoints inside a training; 0 saves after every epoch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.each_once("methods")
        self.each_once("densities")
        if "random" not in self.methods:
            raise ValueError("methods must contain 'random', which every arm is compared with.")
        for density in self.densities:
            if not 0 < density < 1:
                raise ValueError(
                    f"densities contain {density}. A density lies between 0 and 1; dense training is always there."
                )
        if self.spectrum_density and self.spectrum_density not in self.densities:
            raise ValueError(
                f"spectrum_density is {self.spectrum_density}, and densities are {self.densities}. Choose one of "
                "them, or 0."
            )
        if self.rounds < 0 or self.per_class < 1 or self.prune_batch < 1:
            raise ValueError(
                f"rounds={self.rounds}, per_class={self.per_class} and prune_batch={self.prune_batch} must be at "
                "least 0, 1 and 1."
            )
        if self.enlarge < 0 or self.workers < 0:
            raise ValueError(
                f"enlarge={self.enlarge} and workers={self.workers} count pixels and processes. Give 0 or more."
            )
        if bool(self.pretrain_data) != (self.pretrain_epochs > 0):
            raise ValueError(
                f"pretrain_data is {self.pretrain_data!r} and pretrain_epochs {self.pretrain_epochs}. Give both, or "
                "neither."
            )

    @property
    def arms(self) -> list[Arm]:
        """All arms, dense training first; those of one method stand together."""
        return [DENSE, *(Arm(m, d) for m in self.methods for d in self.densities)]

    @property
    def recipe(self) -> Recipe:
        """The optimizer's part of the settings."""
        return Recipe(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            milestones=self.milestones,
        )


# sparsities 36.00, 59.04, 73.79, 83.22, 89.26, 93.13, 95.60, 97.19 and 98.20 %
_GRID = tuple(round(0.8**c, 12) for c in range(2, 19, 2))
_FEWER: tuple[MethodName, ...] = (
    *("random", "magnitude", "snip", "grasp", "synflow", "synflow_l2", "ntk_sap", "px"),
)
_LARGE = ForesightConfig(
    densities=_GRID,
    epochs=160,
    batch_size=128,
    augment=True,
    spectrum_density=_GRID[-1],
    driver="auto",
    checkpoint_seconds=60.0,
)

PRESETS: dict[str, ForesightConfig] = {
    "digits": ForesightConfig(),
    "transfer": ForesightConfig(
        methods=("random", "magnitude", "snip", "synflow", "px"),
        densities=(0.2, 0.05),
        rounds=10,
        model="digits",
        pretrain_data="fashion_mnist",
        pretrain_epochs=3,
        pretrain_limit=2000,
        epochs=8,
        milestones=(4, 6),
        learning_rate=0.05,
        driver="auto",
    ),
    # projections of 1x1 with BatchNorm, which are pruned as the other kernels are
    "resnet20": dataclasses.replace(
        _LARGE, data="cifar10", model="resnet20", shortcut="B", milestones=(80, 120)
    ),
    # with biases in its convolutions in the paper's code, and an average pooling before the classifier
    "vgg16": dataclasses.replace(
        _LARGE,
        data="cifar100",
        model="vgg16",
        milestones=(60, 120),
        nesterov=True,
        weight_decay=5e-4,
    ),
    # streamed; its kernel of 200 x 200 outputs is left out
    "resnet18": dataclasses.replace(
        _LARGE,
        methods=_FEWER,
        densities=_GRID[2::2],
        data="tiny_imagenet",
        model="resnet18",
        shortcut="B",
        augment=False,
        epochs=200,
        batch_size=256,
        learning_rate=0.2,
        milestones=(100, 150),
        spectrum_density=0.0,
    ),
    # trained on ImageNet here, in batches of 256 and by the supervised crops, for want of the published weights
    "resnet50": dataclasses.replace(
        _LARGE,
        methods=("random", "magnitude", "snip", "synflow", "px"),
        densities=(_GRID[4], _GRID[8]),
        data="tiny_imagenet",
        pretrain_data="imagenet",
        pretrain_epochs=90,
        pretrain_milestones=(30, 60, 80),
        model="resnet50",
        shortcut="B",
        enlarge=224,
        workers=12,
        augment=False,
        epochs=182,
        batch_size=256,
        milestones=(91, 136),
        spectrum_density=0.0,
    ),
}
