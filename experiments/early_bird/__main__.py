"""Run ``python -m experiments.early_bird``: retrain accuracy against draw epoch."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from experiments._cli import fail, parse
from experiments._folder import FolderError, RunFolder
from experiments._progress import Progress
from experiments._units import run_units
from experiments.early_bird._config import PRESETS, EarlyBirdConfig
from experiments.early_bird._dense import DenseUnit
from experiments.early_bird._history import History
from experiments.early_bird._measures import measure, measure_dense
from experiments.early_bird._page import curve_records, table_records, write_page
from experiments.early_bird._retrain import RetrainUnit
from experiments.early_bird._setup import Setup
from experiments.report import comparison_of, comparison_records
from experiments.training import CheckpointError, MetricsLog

PROG = "python -m experiments.early_bird"

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
    config = parse(EarlyBirdConfig, PRESETS, argv, prog=PROG, description=DESCRIPTION, about=ABOUT)
    begin = time.perf_counter()
    try:
        RunFolder.check("early_bird", config)
        setup = Setup(config)
        folder = RunFolder.open("early_bird", config, argv)
    except (FolderError, FileNotFoundError, ImportError, ValueError) as error:
        fail(PROG, str(error))
    try:
        phases = len(setup.cohorts) * (1 + len(config.trials))
        with Progress(phases=phases) as progress:
            for note in folder.notes:
                progress.note(note)
            failures = _run_arms(setup, folder, progress)
    except (FolderError, CheckpointError) as error:
        fail(PROG, str(error))
    except KeyboardInterrupt:
        sys.stderr.write(f"{PROG}: interrupted; the same command with --resume goes on.\n")
        return 130
    return _report(setup, folder, failures, time.perf_counter() - begin)


def _run_arms(setup: Setup, folder: RunFolder, progress: Progress) -> dict[str, str]:
    """Run the dense training and every trial that is not over yet; return why arms failed."""
    trials = {trial.name: trial for trial in setup.config.trials}

    def begin(arm: str, seeds: Sequence[int]) -> tuple[int | None, Callable[[MetricsLog], None]]:
        unit: Any
        if arm == "dense":
            unit = DenseUnit(setup, folder, progress, seeds)
        else:
            unit = RetrainUnit(setup, folder, progress, trials[arm], seeds)
        return unit.restore(), unit.run

    units = [(arm, seeds) for arm in ("dense", *trials) for seeds in setup.cohorts]
    return run_units(folder, progress, units, begin)


def _report(setup: Setup, folder: RunFolder, failures: dict[str, str], seconds: float) -> int:
    config, seeds = setup.config, setup.config.seed_numbers
    history = History(folder.records(), config.prune_ratios)
    for arm, why in failures.items():
        sys.stderr.write(f"{PROG}: arm {arm} failed: {why}\n")
    if not history.finished("dense", seeds):
        return 1
    measured = {"dense": measure_dense(history, setup, seeds)}
    measured |= {
        trial.name: measure(history, setup, trial, seeds)
        for trial in config.trials
        if history.finished(trial.name, seeds)
    }
    timing = {
        "wall seconds of this start": round(seconds, 1),
        **setup.spent(),
        "images": setup.splits,
        "parameters": setup.parameters,
        "multiply-accumulates an image": setup.macs,
        "training GFLOP an epoch": round(setup.epoch_flops * 1e-9, 2),
    }
    found = table_records(setup, history, measured)
    folder.write_summary(
        {
            "reference": "dense",
            "tables": found,
            "arms": comparison_records(measured, "dense"),
            "curves": curve_records(setup, history),
            "failures": failures,
            "seeds": seeds,
            "timing": timing,
        }
    )
    write_page(folder, setup, history, measured, failures, timing)
    for record in found:
        sys.stdout.write(f"\n{comparison_of(record).text()}\n")
    sys.stdout.write(f"\nReport: {folder.report}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
