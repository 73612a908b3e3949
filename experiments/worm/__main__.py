"""Run ``python -m experiments.worm``: Early-Bird and WORM tickets against dense training."""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from experiments._cli import fail, parse
from experiments._folder import FolderError, RunFolder
from experiments._progress import Progress
from experiments.report import Value, comparison_records
from experiments.training import CheckpointError, MetricsLog
from experiments.worm._config import PRESETS, Arm, WormConfig
from experiments.worm._measures import History, measure
from experiments.worm._page import results_table, write_page
from experiments.worm._search import compile_seconds
from experiments.worm._setup import Setup
from experiments.worm._unit import Unit

PROG = "python -m experiments.worm"

DESCRIPTION = """Search for Early-Bird tickets with and without WORM gradient truncation, draw, prune, and
retrain under the ticket's masks; compare epochs to the ticket, cost and accuracy, paired by seed.

It writes config.json, metrics.jsonl, summary.json, report.html, figures/ and checkpoints/ to --out, and
continues an interrupted run with --resume."""

ABOUT = {
    "digits": "scikit-learn's 8x8 digits, a four-layer VGG; about a minute on two cores (the default)",
    "fashion_mnist": "28x28 grey images, a five-layer VGG; needs TFDS_DATA_DIR",
    "cifar10": "ResNet-20 by the Early-Bird recipe, 160 epochs; needs TFDS_DATA_DIR and an accelerator",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the main job; 0 where every arm finished, 1 where one failed, 2 for a wrong call."""
    config = parse(WormConfig, PRESETS, argv, prog=PROG, description=DESCRIPTION, about=ABOUT)
    try:
        folder = RunFolder.open("worm", config, argv)
        setup = Setup(config)
    except (FolderError, FileNotFoundError, ImportError, ValueError) as error:
        fail(PROG, str(error))
    begin = time.perf_counter()
    with Progress(phases=_phases(setup, config.arms)) as progress:
        for note in folder.notes:
            progress.note(note)
        try:
            failures = _run_arms(setup, folder, progress)
        except CheckpointError as error:
            fail(PROG, str(error))
    return _report(setup, folder, failures, time.perf_counter() - begin)


def _run_arms(setup: Setup, folder: RunFolder, progress: Progress) -> dict[str, str]:
    """Run what is not finished yet; return why arms failed."""
    records = _stored_records(folder)
    done = {(r["arm"], r["seed"]) for r in records if r["kind"] == "result"}
    finished = max((i + 1 for i, r in enumerate(records) if r["kind"] == "result"), default=0)
    failures: dict[str, str] = {}
    log: MetricsLog | None = None
    try:
        for arm in setup.config.arms:
            for seeds in setup.cohorts:
                if all((arm, seed) in done for seed in seeds) or arm in failures:
                    continue
                unit = Unit(setup, folder, progress, arm, seeds)
                started, retraining, position = unit.restore()
                if log is None:
                    # what the checkpoint of the running unit does not know of is computed again
                    log = MetricsLog(folder.metrics, finished if position is None else position)
                try:
                    unit.run(log, started, retraining)
                except (ValueError, FloatingPointError) as error:
                    failures[arm] = str(error)
                    progress.note(f"{arm}, seeds {seeds}: {error}")
    finally:
        if log is not None:
            log.close()
    return failures


def _stored_records(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the complete records of a run; a kill may have torn the last line."""
    if not folder.metrics.exists():
        return []
    lines = folder.metrics.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]


def _phases(setup: Setup, arms: Sequence[Arm]) -> int:
    return len(setup.cohorts) * sum(1 if arm == "dense" else 2 for arm in arms)


def _report(setup: Setup, folder: RunFolder, failures: dict[str, str], seconds: float) -> int:
    config = setup.config
    seeds = [config.first_seed + i for i in range(config.seeds)]
    history = History(_stored_records(folder))
    measured: dict[str, dict[str, list[Value]]] = {
        arm: measure(history, config, arm, seeds, setup.epoch_flops, sum(setup.widths))
        for arm in config.arms
        if history.finished(arm, seeds)
    }
    timing = {
        "wall seconds of this start": round(seconds, 1),
        "of these compiling": round(setup.compile_seconds + compile_seconds(), 1),
        "images": setup.splits,
        "parameters": setup.parameters,
        "multiply-accumulates an image": setup.macs,
        "training GFLOP an epoch": round(setup.epoch_flops * 1e-9, 2),
    }
    if "standard" not in measured:
        for arm, why in failures.items():
            sys.stderr.write(f"{PROG}: arm {arm} failed: {why}\n")
        return 1
    table = results_table(measured, config)
    folder.write_summary(
        {
            "reference": "standard",
            "arms": comparison_records(measured, "standard"),
            "failures": failures,
            "seeds": seeds,
            "timing": timing,
        }
    )
    write_page(folder, setup, history, measured, failures, timing)
    sys.stdout.write(f"\n{table.text()}\n\nReport: {folder.report}\n")
    for arm, why in failures.items():
        sys.stderr.write(f"{PROG}: arm {arm} failed: {why}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
