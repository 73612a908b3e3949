"""Run ``python -m experiments.structured_tickets``: do iterative pruning's tickets survive being made structured?"""

import sys
from collections.abc import Sequence

from experiments._launch import launch
from experiments.structured_tickets._config import PRESETS, TicketConfig
from experiments.structured_tickets._job import Job

DESCRIPTION = """Prune a network by iterative magnitude pruning with rewinding. At several rounds turn the mask into
whole channels (Refill, Refill+) or dense row blocks (Regroup), train that from the rewinding point, remove what can be
removed, and compare with dense training, with the unstructured ticket and with structured controls: random channels,
and channels of a mask that was pruned at once. Accuracy is told against weights that are kept, weights that are
multiplied with, and measured time.

It writes config.json, metrics.jsonl, summary.json, report.html, figures/ and checkpoints/ to --out, and continues an
interrupted run with --resume."""

ABOUT = {
    "digits": "scikit-learn's 8x8 digits, a four-layer VGG; some minutes on two cores (the default)",
    "wrn32_2": "CIFAR-10, WRN-32-2, 160 epochs, ten rounds, the paper's recipe; an accelerator",
    "resnet18": "CIFAR-10, ResNet-18, the same",
    "mobilenet": "CIFAR-10, MobileNet-v1, the same",
    "vgg16": "CIFAR-10, VGG-16, the same",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison; 0 where every arm finished, 1 where one failed, 2 for a wrong call."""
    return launch(
        "structured_tickets", TicketConfig, PRESETS, Job, argv, description=DESCRIPTION, about=ABOUT
    )


if __name__ == "__main__":
    sys.exit(main())
