"""Run ``python -m experiments.worm``: Early-Bird and WORM tickets against dense training."""

import sys
import time
from collections.abc import Sequence
from typing import Any

from experiments import training
from experiments._cli import fail, parse
from experiments._folder import FolderError, RunFolder
from experiments._progress import Progress
from experiments.report import Value, comparison_records
from experiments.training import CheckpointError, MetricsLog, read_records
from experiments.worm._config import PRESETS, Arm, WormConfig
from experiments.worm._measures import History, measure
from experiments.worm._page import results_table, write_page
from experiments.worm._search import compile_seconds
from experiments.worm._setup import Setup
from experiments.worm._speed import SpeedTest
from experiments.worm._speed_table import speed_summary, speed_table
from experiments.worm._unit import Unit

PROG = "python -m experiments.worm"

DESCRIPTION = """Search for Early-Bird tickets with and without WORM gradient truncation, draw, prune, and
retrain under the ticket's masks; compare epochs to the ticket, cost and accuracy, paired by seed. One
ticket of each arm is shrunk to a really smaller network and timed.

It writes config.json, metrics.jsonl, summary.json, report.html, figures/ and checkpoints/ to --out, and
continues an interrupted run with --resume."""

ABOUT = {
    "digits": "scikit-learn's 8x8 digits, a four-layer VGG; about two minutes on two cores (the default)",
    "fashion_mnist": "28x28 grey images, a five-layer VGG; needs TFDS_DATA_DIR",
    "cifar10": "ResNet-20 by the Early-Bird recipe, 160 epochs; needs TFDS_DATA_DIR and an accelerator",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the main job; 0 where every arm finished, 1 where one failed, 2 for a wrong call."""
    config = parse(WormConfig, PRESETS, argv, prog=PROG, description=DESCRIPTION, about=ABOUT)
    begin = time.perf_counter()
    try:
        RunFolder.check("worm", config)
        setup = Setup(config)
        folder = RunFolder.open("worm", config, argv)
    except (FolderError, FileNotFoundError, ImportError, ValueError) as error:
        fail(PROG, str(error))
    try:
        speed = SpeedTest(setup) if config.speed_rounds else None
        with Progress(phases=_phases(setup, config.arms)) as progress:
            for note in folder.notes:
                progress.note(note)
            failures = _run_arms(setup, folder, progress, speed)
    except (FolderError, CheckpointError) as error:
        fail(PROG, str(error))
    except KeyboardInterrupt:
        sys.stderr.write(f"{PROG}: interrupted; the same command with --resume goes on.\n")
        return 130
    spent = compile_seconds() + (speed.compile_seconds if speed else 0.0)
    return _report(setup, folder, failures, time.perf_counter() - begin, spent)


def _run_arms(
    setup: Setup, folder: RunFolder, progress: Progress, speed: SpeedTest | None
) -> dict[str, str]:
    """Run every arm and cohort that is not over yet; return why arms failed."""

    def open_unit(arm: Any, seeds: Sequence[int]) -> training.Unit:
        unit = Unit(setup, folder, progress, arm, seeds)

        def run(log: MetricsLog, start: Any) -> None:
            unit.run(log, start, None if _is_timed(folder, arm) else speed)

        return training.Unit(unit.restore, run)

    units = [(arm, seeds) for arm in setup.config.arms for seeds in setup.cohorts]
    return training.run_units(units, open_unit, folder.metrics, progress.note)


def _is_timed(folder: RunFolder, arm: Arm) -> bool:
    """Whether one of the arm's tickets was timed, by this start or one before."""
    return History(read_records(folder.metrics)).speed(arm) is not None


def _phases(setup: Setup, arms: Sequence[Arm]) -> int:
    searching = sum(1 for arm in arms if arm != "dense")
    timed = searching if setup.config.speed_rounds else 0
    return len(setup.cohorts) * (len(arms) + searching) + timed


def _report(
    setup: Setup, folder: RunFolder, failures: dict[str, str], seconds: float, compiling: float
) -> int:
    config = setup.config
    seeds = config.seed_numbers
    history = History(read_records(folder.metrics))
    measured: dict[str, dict[str, list[Value]]] = {
        arm: measure(history, config, arm, seeds, setup.epoch_flops, sum(setup.widths))
        for arm in config.arms
        if history.finished(arm, seeds)
    }
    timing = {
        "wall seconds of this start": round(seconds, 1),
        "of these compiling": round(setup.compile_seconds + compiling, 1),
        "images": setup.splits,
        "parameters": setup.parameters,
        "multiply-accumulates an image": setup.macs,
        "training GFLOP an epoch": round(setup.epoch_flops * 1e-9, 2),
    }
    if "standard" not in measured:
        for arm, why in failures.items():
            sys.stderr.write(f"{PROG}: arm {arm} failed: {why}\n")
        return 1
    table = results_table(measured, config, history)
    speeds = [record for arm in measured if (record := history.speed(arm))]
    folder.write_summary(
        {
            "reference": "standard",
            "arms": comparison_records(measured, "standard"),
            "speed": speed_summary(speeds),
            "failures": failures,
            "seeds": seeds,
            "timing": timing,
        }
    )
    write_page(folder, setup, history, measured, failures, timing)
    sys.stdout.write(f"\n{table.text()}\n")
    if speeds:
        sys.stdout.write(f"\n{speed_table(speeds, config).text()}\n")
    sys.stdout.write(f"\nReport: {folder.report}\n")
    for arm, why in failures.items():
        sys.stderr.write(f"{PROG}: arm {arm} failed: {why}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
