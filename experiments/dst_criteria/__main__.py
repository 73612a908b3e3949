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
    "resnet56_cifar100_released": "the same as the study's released code trains, its dense control with batches of 256",
    "vgg16": "CIFAR-100, VGG-16 with BatchNorm, 200 epochs",
    "lenet": "Fashion-MNIST, LeNet-5, 100 epochs",
    "mlp_period": "how often masks are updated: densities 0.1 and 0.2; a run for each --every 25, 50, ..., 6400",
    "convnet_period": "the same, the ConvNet",
    "resnet56_period": "the same, ResNet-56, to --every 12800",
    "mlp_global": "criteria that compare the whole network, random growth, the perceptron",
    "resnet56_global": "the same, ResNet-56",
    "mlp_gamma": "MEST's weight of the gradient: a run for each --mest_gamma 0.001, 0.01, ..., 1000",
    "mlp_sensitivity": "the sensitivity criterion, the perceptron",
    "lenet_large_batch": "LeNet-5 with batches of 1,024",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison; 0 where every arm finished, 1 where one failed, 2 for a wrong call."""
    return launch(
        "dst_criteria", DstConfig, PRESETS, Job, argv, description=DESCRIPTION, about=ABOUT
    )


if __name__ == "__main__":
    sys.exit(main())
