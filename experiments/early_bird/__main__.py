"""Run ``python -m experiments.early_bird``: retrain accuracy against draw epoch."""

import sys
from collections.abc import Sequence

from experiments._launch import launch
from experiments.early_bird._config import PRESETS, EarlyBirdConfig
from experiments.early_bird._job import Job

DESCRIPTION = """Train densely with an Early-Bird detector for each prune ratio looking on; prune and retrain what is
drawn at several epochs, and compare the ways to train the ticket that emerges with random channels, one-shot lottery
tickets, SNIP and network slimming, paired by seed.

It writes config.json, metrics.jsonl, summary.json, report.html, figures/ and checkpoints/ to --out, and
continues an interrupted run with --resume."""

ABOUT = {
    "digits": "scikit-learn's 8x8 digits, a four-layer VGG; under three minutes on two cores (the default)",
    "fashion_mnist": "28x28 grey images, a five-layer VGG, three ratios; needs TFDS_DATA_DIR",
    "cifar10_early_bird": "VGG-16 by the paper's recipe, 160 epochs; needs TFDS_DATA_DIR and an accelerator",
    "cifar10_early_bird_preresnet": "PreResNet-101 by the same; needs TFDS_DATA_DIR and an accelerator",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment; 0 where every arm finished, 1 where one failed, 2 for a wrong call."""
    return launch(
        "early_bird", EarlyBirdConfig, PRESETS, Job, argv, description=DESCRIPTION, about=ABOUT
    )


if __name__ == "__main__":
    sys.exit(main())
