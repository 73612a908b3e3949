"""Run ``python -m experiments.dst_criteria``: which connections should dynamic sparse training drop?"""

import sys
import time
from collections.abc import Callable, Sequence

from experiments._cli import fail, parse
from experiments._folder import FolderError, RunFolder
from experiments._progress import Progress
from experiments._units import run_units
from experiments.dst_criteria._config import PRESETS, Arm, DstConfig
from experiments.dst_criteria._measures import METRICS, History, measure, ranks
from experiments.dst_criteria._page import HONEST, LEGACY, ranks_table, results_table, write_page
from experiments.dst_criteria._setup import Setup
from experiments.dst_criteria._unit import Unit
from experiments.report import comparison_record
from experiments.training import CheckpointError, MetricsLog

PROG = "python -m experiments.dst_criteria"

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
    config = parse(DstConfig, PRESETS, argv, prog=PROG, description=DESCRIPTION, about=ABOUT)
    begin = time.perf_counter()
    try:
        RunFolder.check("dst_criteria", config)
        setup = Setup(config)
        folder = RunFolder.open("dst_criteria", config, argv)
    except (FolderError, FileNotFoundError, ImportError, ValueError) as error:
        fail(PROG, str(error))
    phases = len(config.arms) * config.seeds
    try:
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
    """Run every arm and seed that is not over yet; return why arms failed."""
    arms = {arm.name: arm for arm in setup.config.arms}

    def begin(name: str, seeds: Sequence[int]) -> tuple[int | None, Callable[[MetricsLog], None]]:
        [seed] = seeds
        unit = Unit(setup, folder, progress, arms[name], seed)
        start, position = unit.restore()
        return position, lambda log: unit.run(log, start)

    units = [(name, [seed]) for name in arms for seed in setup.config.seed_numbers]
    return run_units(folder, progress, units, begin)


def _report(setup: Setup, folder: RunFolder, failures: dict[str, str], seconds: float) -> int:
    config = setup.config
    history = History(folder.records())
    measured = measure(history, config)
    for arm, why in failures.items():
        sys.stderr.write(f"{PROG}: arm {arm} failed: {why}\n")
    reference = Arm(None, None, config.densities[0])
    if reference not in measured:
        return 1
    timing = {
        "wall seconds of this start": round(seconds, 1),
        "of these compiling": round(setup.compile_seconds, 1),
        "training programs compiled in this start": setup.programs,
        "images": setup.splits,
        **setup.sizes(),
        "optimizer steps of a training": config.epochs * setup.steps,
    }
    ranking = ranks(measured, config)
    tables = [
        comparison_record(
            f"{config.model} on {config.data}" + ("" if density == 1 else f", density {density:g}"),
            {arm.name: values for arm, values in measured.items() if arm.density == density},
            METRICS,
            Arm(None, None, density).name,
            notes=[LEGACY if config.legacy_selection else HONEST],
        )
        for density in (1.0, *config.densities)
        if Arm(None, None, density) in measured
    ]
    folder.write_summary(
        {
            "reference": "static training at the same density",
            "tables": tables,
            "arms": [record for table in tables for record in table["arms"]],
            "ranks": None if ranking is None else ranking.record(),
            "failures": failures,
            "seeds": config.seed_numbers,
            "timing": timing,
        }
    )
    write_page(folder, setup, history, measured, failures, timing)
    sys.stdout.write(f"\n{results_table(measured, config).text()}\n")
    if table := ranks_table(measured, config):
        sys.stdout.write(f"\n{table.text()}\n")
    sys.stdout.write(f"\nReport: {folder.report}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
