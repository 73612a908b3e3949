"""Run ``python -m experiments.layer_tickets``: what does removing whole blocks before training buy?"""

import sys
from collections.abc import Sequence

from experiments._launch import launch
from experiments.layer_tickets._config import PRESETS, LayerConfig
from experiments.layer_tickets._job import Job

DESCRIPTION = """Score the residual blocks of a network at initialisation, remove the least important, train the rest,
and compare it, paired by seed, with the dense network, with blocks drawn at random, and with filters of the same
number: accuracy, cost, time, CO2, likeness to the dense network, robustness.

It writes config.json, metrics.jsonl, summary.json, report.html, figures/ and checkpoints/ to --out, and continues an
interrupted run with --resume."""

ABOUT = {
    "digits": "scikit-learn's 8x8 digits, a residual network of seven blocks; some minutes on two cores (the default)",
    "resnet32": "CIFAR-10, ResNet-32, 1 to 5 blocks of 13, 200 epochs; an accelerator",
    "resnet32_trained": "the same network, one block less by criteria of the trained network, rewound",
    "resnet56": "CIFAR-10, ResNet-56, 1 to 5 and 12 blocks of 25, 200 epochs",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; 0 where every arm finished, 1 where one failed, 2 for a wrong call."""
    return launch(
        "layer_tickets", LayerConfig, PRESETS, Job, argv, description=DESCRIPTION, about=ABOUT
    )


if __name__ == "__main__":
    sys.exit(main())
