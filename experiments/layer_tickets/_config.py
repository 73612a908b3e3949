"""What the study of layer tickets can be told, and its presets."""

import dataclasses
from typing import Literal, NamedTuple

from experiments._training_config import TrainingConfig
from experiments.training import Recipe

Criterion = Literal["grasp", "snip", "signed_snip", "l1", "random"]
TrainedCriterion = Literal["hrank", "expect_abs", "pls_vip", "kl", "cka", "random"]


class Arm(NamedTuple):
    """One way to make the network smaller.

    Attributes:
      kind: the criterion that chooses blocks, ``"filters"`` for the control, ``"dense"`` for the whole network.
      p: blocks that are removed, or as many filters as those blocks have.
      rewind_to: the epoch that a ticket of the trained network goes back to; None for one at initialisation.
    """

    kind: str
    p: int
    rewind_to: int | None = None

    @property
    def name(self) -> str:
        """What records and checkpoints call it."""
        if self.kind == "dense":
            return "dense"
        rewound = "" if self.rewind_to is None else f"-from{self.rewind_to}"
        return f"{self.kind}-{self.p}{rewound}"


DENSE = Arm("dense", 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerConfig(TrainingConfig):
    """Criteria x number of blocks, against the dense network and against filters of the same number."""

    criteria: tuple[Criterion, ...] = ("grasp", "snip", "random")
    """What chooses the blocks, at initialisation; none where ``trained`` names some."""

    trained: tuple[TrainedCriterion, ...] = ()
    """What chooses the blocks of the trained network, whose tickets are rewound and trained again."""

    rewind_to: tuple[int, ...] = (0, 25, 50, 75)
    """Epochs that the tickets of ``trained`` go back to, weights and learning rate."""

    removed: tuple[int, ...] = (1, 2, 3, 4, 5)
    """How many blocks go, at once."""

    filters: tuple[int, ...] = (1,)
    """The control, for these of ``removed``: as many filters as the first criterion's blocks have, from inside all
    blocks, by its scores. Inside a block is half of its filters, so that many blocks have no such match."""

    filter_control: Literal["masked", "shrunk"] = "shrunk"
    """masked: the control trains the whole network with masks, in one program for all; its time says nothing."""

    aggregate: Literal["sum", "mean"] = "sum"
    """How a block's score comes of its weights' scores; the paper does not say."""

    min_blocks_per_stage: int = 1
    """Blocks that every stage keeps."""

    rule: Literal["identity", "sibling"] = "identity"
    """Which blocks are candidates."""

    stage_blocks: tuple[int, ...] | None = None
    """Blocks of each stage; None for the named model's."""

    stage_widths: tuple[int, ...] | None = None
    """Channels of each stage; None for the named model's."""

    score_per_class: int = 10
    """Training images of each class that the scores see."""

    temperature: float = 200.0
    """What logits are divided by for GraSP."""

    xi: float = 0.0
    """Accuracy that a winning ticket may lose, as a fraction."""

    force_single_seed: bool = False
    """Call tickets winning or not from one seed."""

    robust_images: int = 200
    """Test images that are corrupted and attacked."""

    severities: tuple[int, ...] = (1, 3, 5)
    """Severities of the corruptions, 1 to 5."""

    epsilon: float = 8 / 255
    """Radius of the attacks in the unit of pixels, which lie in [0, 1]; L-infinity."""

    epsilon_l2: float = 0.0
    """Radius of the L2 attack; 0 leaves it out."""

    attack_steps: int = 10
    """Steps of PGD, each a quarter of the radius."""

    power_kw: float | None = None
    """Mean power of the machine in kilowatts, for CO2; None reports none. It is an assumption, not a measurement."""

    kg_per_kwh: float | None = None
    """Carbon intensity of the grid, kg CO2-eq per kWh; None reports no CO2."""

    measure_energy: bool = False
    """Measure the energy of training by codecarbon, an optional package, beside the assumed power."""

    model: str = "resnet32"
    """Name of a residual model in experiments.models; its shortcuts are projections with BatchNorm."""

    epochs: int = 200
    """Epochs of every training."""

    batch_size: int = 128
    """Examples a step."""

    learning_rate: float = 0.01
    """Learning rate before any decay; a tenth of it after half, a hundredth after three quarters of the epochs."""

    momentum: float = 0.9
    """Nesterov momentum of SGD."""

    weight_decay: float = 1e-4
    """L2 decay of every parameter."""

    checkpoint_seconds: float = 60.0
    """Time between checkpoints inside a training; 0 saves after every epoch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.each_once("removed")
        if self.criteria or not self.trained:
            self.each_once("criteria")
        if self.trained:
            self.each_once("trained")
            self.each_once("rewind_to")
        if self.trained and not all(0 <= i < self.epochs for i in self.rewind_to):
            raise ValueError(
                f"rewind_to are {self.rewind_to}. Each lies in 0, ..., {self.epochs - 1}: before the last epoch."
            )
        if self.filters and not self.criteria:
            raise ValueError(
                "filters are matched to the blocks of the first of criteria. Name one, or no filters."
            )
        if not set(self.filters) <= set(self.removed):
            raise ValueError(
                f"filters are {self.filters}, and removed {self.removed}. Match what is removed."
            )
        if min(self.removed) < 1:
            raise ValueError(f"removed contains {min(self.removed)}. Remove at least one block.")
        if not set(self.severities) <= {1, 2, 3, 4, 5} or not self.severities:
            raise ValueError(f"severities are {self.severities}. Each lies in 1, ..., 5.")
        if min(self.epsilon, self.epsilon_l2, self.xi) < 0:
            raise ValueError("epsilon, epsilon_l2 and xi must not be negative.")
        if self.robust_images < 1 or self.score_per_class < 1 or self.attack_steps < 1:
            raise ValueError("robust_images, score_per_class and attack_steps must be at least 1.")
        if (self.power_kw is None) != (self.kg_per_kwh is None):
            raise ValueError(
                "CO2 takes both power_kw and kg_per_kwh, which stand in the report. Give both, or neither."
            )

    @property
    def arms(self) -> list[Arm]:
        """All arms, the dense network first."""
        tickets = [Arm(kind, p) for kind in self.criteria for p in self.removed]
        rewound = [
            Arm(kind, p, i) for kind in self.trained for p in self.removed for i in self.rewind_to
        ]
        return [DENSE, *tickets, *rewound, *(Arm("filters", p) for p in self.filters)]

    @property
    def kept_epochs(self) -> set[int]:
        """Epochs after which the dense network's state is kept, for tickets of ``trained``."""
        return {*self.rewind_to, self.epochs} if self.trained else set()

    @property
    def recipe(self) -> Recipe:
        """The optimizer's part of the settings; the rate falls tenfold at 1/2 and 3/4 of the epochs."""
        return self.falling_recipe(nesterov=self.momentum > 0)


# The paper gives no recipe; this is the closest public one of its author, with one
# pass of augmentation an epoch where his code has three.
_PAPER = LayerConfig(
    data="cifar10", augment=True, robust_images=10_000, severities=(1, 2, 3, 4, 5), epsilon_l2=0.5
)

PRESETS: dict[str, LayerConfig] = {
    "digits": LayerConfig(
        model="digits_resnet",
        stage_blocks=(1, 6),
        stage_widths=(4, 8),
        filters=(1, 2),
        filter_control="masked",
        epochs=5,
        batch_size=64,
        learning_rate=0.1,
        robust_images=100,
        severities=(3,),
        epsilon=0.1,
        attack_steps=5,
        power_kw=0.1,
        kg_per_kwh=0.4,
    ),
    "resnet32": _PAPER,
    # the paper does not say how many blocks its table of trained criteria removes
    "resnet32_trained": dataclasses.replace(
        _PAPER,
        criteria=(),
        filters=(),
        removed=(1,),
        trained=("hrank", "expect_abs", "pls_vip", "kl", "cka", "random"),
        score_per_class=500,
    ),
    "resnet56": dataclasses.replace(_PAPER, model="resnet56", removed=(1, 2, 3, 4, 5, 12)),
}
