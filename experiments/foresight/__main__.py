"""Run ``python -m experiments.foresight``: which weights can go before training?"""

import sys
from collections.abc import Sequence

from experiments._launch import launch
from experiments.foresight._config import PRESETS, ForesightConfig
from experiments.foresight._job import Job

DESCRIPTION = """Prune networks before they are trained, by several methods to several densities, train what is left,
and compare with dense training and with random pruning, paired by seed. All methods see the same class-balanced
pruning set.

It writes config.json, metrics.jsonl, summary.json, report.html, figures/, pruning_set.json and checkpoints/ to
--out, and continues an interrupted run with --resume."""

ABOUT = {
    "digits": "scikit-learn's 8x8 digits, LeNet-300-100; some minutes on two cores (the default)",
    "transfer": "a small VGG trained on fashion_mnist, pruned and trained on digits; a quarter of an hour on two cores",
    "resnet20": "CIFAR-10, ResNet-20 with projections, 160 epochs, sparsities of 36 to 98.2 %; an accelerator",
    "resnet18": "Tiny-ImageNet, streamed, ResNet-18, 200 epochs, sparsities of 74 to 98.2 %; an accelerator",
    "resnet50": "ResNet-50 trained on ImageNet, pruned and trained on Tiny-ImageNet at 224 pixels; an accelerator",
    "vgg16": "CIFAR-100, VGG-16 with BatchNorm, 160 epochs, sparsities of 36 to 98.2 %; an accelerator",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison; 0 where every arm finished, 1 where one failed, 2 for a wrong call."""
    return launch(
        "foresight", ForesightConfig, PRESETS, Job, argv, description=DESCRIPTION, about=ABOUT
    )


if __name__ == "__main__":
    sys.exit(main())
