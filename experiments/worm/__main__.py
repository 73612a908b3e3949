"""Run ``python -m experiments.worm``: Early-Bird and WORM tickets against dense training."""

import sys
from collections.abc import Sequence

from experiments._launch import launch
from experiments.worm._config import WormConfig
from experiments.worm._job import Job
from experiments.worm._presets import ABOUT, PRESETS

DESCRIPTION = """Search for Early-Bird tickets with and without WORM gradient truncation, draw, prune, and
retrain under the ticket's masks; compare epochs to the ticket, cost and accuracy, paired by seed. One
ticket of each arm is shrunk to a really smaller network and timed.

It writes config.json, metrics.jsonl, summary.json, report.html, figures/ and checkpoints/ to --out, and
continues an interrupted run with --resume."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the main job; 0 where every arm finished, 1 where one failed, 2 for a wrong call."""
    return launch("worm", WormConfig, PRESETS, Job, argv, description=DESCRIPTION, about=ABOUT)


if __name__ == "__main__":
    sys.exit(main())
