"""Table and report of the comparison of foresight methods."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments._folder import RunFolder
from experiments._report_page import Pictures, write_report_page
from experiments.foresight._config import DENSE, Arm, ForesightConfig
from experiments.foresight._measures import METRICS, History
from experiments.foresight._setup import Setup
from experiments.report import (
    Column,
    Facts,
    Section,
    Table,
    Value,
    accuracy_against_density,
    accuracy_cell,
    arm_styles,
    arms_table,
    eigenvalue_lines,
    failed_arms,
    layer_densities,
    numbers,
    summary,
)
from experiments.report._stats import scaled

Measured = Mapping[Arm, Mapping[str, Sequence[Value]]]

READING = """Every arm of a seed starts from the same weights and sees the same batches; it is pruned before the first
step, on a class-balanced pruning set that all methods share, and then trained with its mask. Masks simulate sparsity:
pruned weights are exactly zero and still computed. The epoch is chosen on validation images, which are neither trained
on nor augmented; test accuracy is only read."""

HONEST = "Accuracy is on the test split, at the epoch of the best validation accuracy."


def results_table(measured: Measured, config: ForesightConfig) -> Table:
    """Return test accuracy by method and sparsity, and the paired difference to random pruning."""
    rows: list[tuple[Any, ...]] = [
        (
            method,
            *(accuracy_cell(measured, Arm(method, d), Arm("random", d)) for d in config.densities),
        )
        for method in config.methods
    ]
    dense = [scaled(v, 100) for v in measured[DENSE]["accuracy"]]
    notes = [
        f"Dense training: {summary(dense).text('.2f')} %.",
        "Mean ± sample standard deviation over seeds; under it the paired difference to random pruning at the same "
        "sparsity with its 95% t interval, not corrected for several comparisons.",
    ]
    if config.ablation != "none":
        notes.insert(0, f"Ablation: {config.ablation}.")
    columns = (
        Column("Test accuracy [%]", align="left"),
        *(Column(f"sparsity {1 - d:.2%}", align="right") for d in config.densities),
    )
    return Table("Pruned before training", columns, tuple(rows), tuple(notes))


def shape_table(measured: Measured, config: ForesightConfig) -> Table:
    """Return what else was measured, at the lowest density."""
    lowest = min(config.densities)
    shown = [m for m in METRICS if m.key != "accuracy"]
    arms = {arm.name: v for arm, v in measured.items() if arm.density in (lowest, 1.0)}
    notes = (
        "A layer is emptied when none of its weights is kept; beside a shortcut the network may live on. The narrowest "
        "layer is the one with the fewest output channels on a path from an input to an output.",
        "Pruning time includes compiling at a method's first arm.",
    )
    return arms_table(f"At sparsity {1 - lowest:.2%}", arms, shown, notes=notes)


def write_page(
    folder: RunFolder,
    setup: Setup,
    history: History,
    measured: Measured,
    failures: Mapping[str, str],
    timing: Mapping[str, Any],
) -> None:
    """Write ``report.html`` and its pictures beside it."""
    config = setup.config
    levels = {"dense": numbers(measured[DENSE]["accuracy"])}
    styles = arm_styles(["dense", *config.methods])
    curves: dict[str, dict[float, list[float]]] = {}
    for arm, values in measured.items():
        if arm.method is not None:
            curves.setdefault(arm.method, {})[arm.density] = numbers(values["accuracy"])
    pictures = {}
    if curves:
        pictures["accuracy_against_density"] = accuracy_against_density(
            {"all methods": curves}, levels=levels, styles=styles
        )
        pictures["layer_densities"] = layer_densities(
            _layers(history, measured, config), styles=styles
        )
    spectra = _spectra(history, measured, config)
    if spectra:
        pictures["ntk_spectrum"] = eigenvalue_lines(spectra, styles=styles)
    captions = {
        "accuracy_against_density": "Mean test accuracy over seeds with its 95% t interval.",
        "layer_densities": "Mean density of each layer over seeds.",
        "ntk_spectrum": f"Eigenvalues of the tangent kernel before training, first seed, at density "
        f"{config.spectrum_density:g}.",
    }
    made = Pictures(folder, pictures, captions)
    write_report_page(
        folder,
        "Pruning before training",
        [
            Section("Result", [READING, *failed_arms(failures), results_table(measured, config)]),
            Section("Accuracy against density", made.shown("accuracy_against_density")),
            Section(
                "What is left", [*made.shown("layer_densities"), shape_table(measured, config)]
            ),
            Section("The tangent kernel", made.shown("ntk_spectrum")),
            Section("What it costs", [Facts("Time and cost", timing)]),
        ],
        config,
        setup.origin,
    )


def _layers(
    history: History, measured: Measured, config: ForesightConfig
) -> dict[str, dict[str, dict[str, float]]]:
    panels: dict[str, dict[str, dict[str, float]]] = {}
    for density in sorted({config.densities[0], min(config.densities)}, reverse=True):
        for method in config.methods:
            arm = Arm(method, density)
            if arm in measured:
                each = [history.results[arm.name, seed]["layers"] for seed in config.seed_numbers]
                mean = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
                panels.setdefault(f"sparsity {1 - density:.2%}", {})[method] = mean
    return panels


def _spectra(
    history: History, measured: Measured, config: ForesightConfig
) -> dict[str, list[float]]:
    found = {}
    for arm in measured:
        record = history.results[arm.name, config.first_seed]
        if "spectrum" in record:
            found[arm.method or "dense"] = record["spectrum"]
    return found
