"""Run ``python -m experiments.dst_criteria``: which connections should dynamic sparse training drop?"""

import sys
import time
from collections.abc import Sequence

from experiments._cli import fail, parse
from experiments._folder import FolderError, RunFolder
from experiments._progress import Progress
from experiments.dst_criteria._config import PRESETS, Arm, DstConfig
from experiments.dst_criteria._measures import History, measure, ranks
from experiments.dst_criteria._page import ranks_table, results_table, write_page
from experiments.dst_criteria._setup import Setup
from experiments.dst_criteria._unit import open_unit
from experiments.report import comparison_records
from experiments.training import CheckpointError, read_records, run_units

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
    units = [(arm.name, [seed]) for arm in config.arms for seed in config.seed_numbers]
    try:
        with Progress(phases=len(units)) as progress:
            for note in folder.notes:
                progress.note(note)
            opened = open_unit(setup, folder, progress)
            failures = run_units(units, opened, folder.metrics, progress.note)
    except (FolderError, CheckpointError) as error:
        fail(PROG, str(error))
    except KeyboardInterrupt:
        sys.stderr.write(f"{PROG}: interrupted; the same command with --resume goes on.\n")
        return 130
    return _report(setup, folder, failures, time.perf_counter() - begin)


def _report(setup: Setup, folder: RunFolder, failures: dict[str, str], seconds: float) -> int:
    config = setup.config
    history = History(read_records(folder.metrics))
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
    by_density = {
        f"{density:g}": comparison_records(
            {arm.name: values for arm, values in measured.items() if arm.density == density},
            Arm(None, None, density).name,
        )
        for density in (1.0, *config.densities)
        if Arm(None, None, density) in measured
    }
    folder.write_summary(
        {
            "reference": "static training at the same density",
            "arms": [record for records in by_density.values() for record in records],
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
