"""Run ``python -m experiments.worm``: Early-Bird and WORM tickets against dense training."""

import sys
import time
from collections.abc import Callable, Sequence

from experiments._cli import fail, parse
from experiments._folder import FolderError, RunFolder
from experiments._progress import Progress
from experiments._units import run_units
from experiments.report import Value, comparison_of, comparison_records
from experiments.training import CheckpointError, MetricsLog
from experiments.worm._config import WormConfig
from experiments.worm._measures import History, measure
from experiments.worm._page import results_record, write_page
from experiments.worm._presets import ABOUT, PRESETS
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
        with Progress(phases=_phases(setup, config.all_arms)) as progress:
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

    def begin(arm: str, seeds: Sequence[int]) -> tuple[int | None, Callable[[MetricsLog], None]]:
        unit = Unit(setup, folder, progress, arm, seeds)
        start, position = unit.restore()
        return position, lambda log: unit.run(log, start, None if _is_timed(folder, arm) else speed)

    units = [(arm, seeds) for arm in setup.config.all_arms for seeds in setup.cohorts]
    return run_units(folder, progress, units, begin)


def _is_timed(folder: RunFolder, arm: str) -> bool:
    """Whether one of the arm's tickets was timed, by this start or one before."""
    return History(folder.records()).speed(arm) is not None


def _phases(setup: Setup, arms: Sequence[str]) -> int:
    searching = sum(1 for arm in arms if arm != "dense")
    timed = searching if setup.config.speed_rounds else 0
    return len(setup.cohorts) * (len(arms) + searching) + timed


def _report(
    setup: Setup, folder: RunFolder, failures: dict[str, str], seconds: float, compiling: float
) -> int:
    config = setup.config
    seeds = config.seed_numbers
    history = History(folder.records())
    measured: dict[str, dict[str, list[Value]]] = {
        arm: measure(history, config, arm, seeds, setup.epoch_flops, sum(setup.widths))
        for arm in config.all_arms
        if history.finished(arm, seeds)
    }
    timing = {
        "wall seconds of this start": round(seconds, 1),
        **setup.spent(compiling),
        "images": setup.splits,
        "parameters": setup.parameters,
        "multiply-accumulates an image": setup.macs,
        "training GFLOP an epoch": round(setup.epoch_flops * 1e-9, 2),
    }
    if "standard" not in measured:
        for arm, why in failures.items():
            sys.stderr.write(f"{PROG}: arm {arm} failed: {why}\n")
        return 1
    results = results_record(measured, config, history)
    speeds = [record for arm in measured if (record := history.speed(arm))]
    folder.write_summary(
        {
            "reference": "standard",
            "tables": [results],
            "arms": comparison_records(measured, "standard"),
            "speed": speed_summary(speeds),
            "failures": failures,
            "seeds": seeds,
            "timing": timing,
        }
    )
    write_page(folder, setup, history, measured, failures, timing)
    sys.stdout.write(f"\n{comparison_of(results).text()}\n")
    if speeds:
        sys.stdout.write(f"\n{speed_table(speeds, config).text()}\n")
    sys.stdout.write(f"\nReport: {folder.report}\n")
    for arm, why in failures.items():
        sys.stderr.write(f"{PROG}: arm {arm} failed: {why}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
