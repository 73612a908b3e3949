"""Run ``python -m experiments.dst_criteria``: which connections should dynamic sparse training drop?"""

import sys
from collections.abc import Sequence

from experiments._launch import launch
from experiments.dst_criteria._config import PRESETS, DstConfig
from experiments.dst_criteria._job import Job

DESCRIPTION = """Train sparse networks whose connections move, with several drop criteria, growth rules and densities,
against static sparse and dense training, paired by seed. Compare accuracies, ranks, and which connections the
criteria would drop from the same state.

It writes config.json, metrics.jsonl, summary.json, report.html, figures/ and checkpoints/ to --out, and continues an
interrupted run with --resume."""

ABOUT = {
    "digits": "scikit-learn's 8x8 digits, LeNet-300-100; some minutes on two cores (the default)",
    "mlp": "CIFAR-10, a 3072-1024-512-10 perceptron, 100 epochs, 11 densities; an accelerator",
    "convnet": "CIFAR-10, three convolutions of 32, 64 and 128 channels, 100 epochs",
    "resnet56": "CIFAR-10, ResNet-56, 200 epochs",
    "resnet56_cifar100": "CIFAR-100, ResNet-56, 200 epochs",
    "vgg16": "CIFAR-100, VGG-16 with BatchNorm, 200 epochs",
    "lenet": "Fashion-MNIST, LeNet-5, 100 epochs",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison; 0 where every arm finished, 1 where one failed, 2 for a wrong call."""
    return launch(
        "dst_criteria", DstConfig, PRESETS, Job, argv, description=DESCRIPTION, about=ABOUT
    )


if __name__ == "__main__":
    sys.exit(main())
