"""Tables and report of the comparison of criteria."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments._folder import RunFolder
from experiments._report_page import Pictures, write_report_page
from experiments.dst_criteria._config import Arm, DstConfig
from experiments.dst_criteria._measures import METRICS, History, ranks
from experiments.dst_criteria._setup import Setup
from experiments.report import (
    Callout,
    Column,
    Facts,
    Section,
    Table,
    Value,
    accuracy_against_density,
    accuracy_cell,
    arm_styles,
    arms_table,
    critical_difference,
    failed_arms,
    numbers,
    similarity_maps,
    summary,
)
from experiments.report._stats import scaled
from wormjax.dst.analysis import chance_jaccard

Measured = Mapping[Arm, Mapping[str, Sequence[Value]]]

READING = """Every arm trains from the same weights, with the same batches and, at one density, from the same random
mask as the others of its seed; a mask update drops by the arm's criterion and grows as many connections. Masks simulate
sparsity: pruned weights are exactly zero and still computed. The epoch is chosen on validation images, which are
neither trained on nor augmented; test accuracy is only read."""

HONEST = "Accuracy is on the test split, at the epoch of the best validation accuracy."

LEGACY = """The epoch was chosen by its TEST accuracy (legacy_selection), as in released code whose validation set is
its test set. These numbers are too good and compare with nothing but that code's."""


def results_table(measured: Measured, config: DstConfig) -> Table:
    """Return test accuracy by criterion, growth and density, and the paired difference to static training."""
    rows: list[tuple[Any, ...]] = []
    kinds: list[tuple[str | None, str | None]] = [(None, None)]
    kinds += [(c, g) for c in config.criteria for g in config.growths]
    for criterion, growth in kinds:
        cells: list[Any] = []
        for density in config.densities:
            arm, static = Arm(criterion, growth, density), Arm(None, None, density)
            cells.append(accuracy_cell(measured, arm, static))
        rows.append((f"{criterion}, {growth} growth" if criterion else "static", *cells))
    dense = Arm(None, None, 1.0)
    notes = [
        "Mean ± sample standard deviation over seeds; under it the paired difference to static training at the same "
        "density with its 95% t interval, not corrected for several comparisons.",
    ]
    if dense in measured:
        values = [scaled(v, 100) for v in measured[dense]["accuracy"]]
        notes.insert(0, f"Dense training: {summary(values).text('.2f')} %.")
    if config.legacy_selection:
        notes.insert(0, LEGACY.replace("\n", " "))
    columns = (
        Column("Test accuracy [%]", align="left"),
        *(Column(f"density {density:g}", align="right") for density in config.densities),
    )
    return Table("Criteria against static sparse training", columns, tuple(rows), tuple(notes))


def movement_table(measured: Measured, config: DstConfig) -> Table:
    """Return what else was measured, at the density of the similarity study."""
    shown = [m for m in METRICS if m.key != "accuracy"]
    arms = {
        arm.name: values
        for arm, values in measured.items()
        if arm.density == config.similarity_density
    }
    note = (
        "Training counts 3 forward passes a step over kept weights, and dense weight gradients where growth reads "
        "them."
    )
    return arms_table(f"At density {config.similarity_density:g}", arms, shown, notes=[note])


def ranks_table(measured: Measured, config: DstConfig) -> Table | None:
    """Return mean ranks over all settings, and over those of each growth."""
    found = {"all": ranks(dict(measured), config)}  # type: ignore[arg-type]
    found |= {g: ranks(dict(measured), config, g) for g in config.growths}  # type: ignore[arg-type]
    kept = {name: r for name, r in found.items() if r is not None}
    if "all" not in kept:
        return None
    by_name = {name: dict(zip(r.names, r.mean_ranks, strict=True)) for name, r in kept.items()}
    rows: list[tuple[Any, ...]] = [
        (criterion, *(by_name[name][criterion] for name in kept)) for criterion in kept["all"].names
    ]
    tests = "; ".join(
        f"{name}: {r.blocks} settings, p = {r.p_value:.2g}, critical difference {r.critical_distance:.2f}"
        for name, r in kept.items()
    )
    columns = (Column("Criterion"), *(Column(f"mean rank, {n}", spec=".2f") for n in kept))
    notes = (
        f"1 is best. Friedman and Nemenyi, 95%: {tests}.",
        "A setting is a growth, a density and a seed; settings share data and seeds and are not independent, so that "
        "p values are too small.",
    )
    return Table("Ranks of the criteria", columns, tuple(rows), notes)


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
    dense = Arm(None, None, 1.0)
    levels = {"dense": numbers(measured[dense]["accuracy"])} if dense in measured else {}
    panels = {f"{g} growth": _curves(measured, config, g) for g in config.growths}
    styles = arm_styles([*levels, "static", *config.criteria])
    pictures = {
        "accuracy_against_density": accuracy_against_density(panels, levels=levels, styles=styles)
    }
    found = {when: history.similarity(when) for when in ("before training", "after training")}
    maps = {when: pair[1] for when, pair in found.items() if pair is not None}
    names = next((pair[0] for pair in found.values() if pair is not None), [])
    if maps:
        chance = chance_jaccard(str(config.drop_fraction))
        pictures["jaccard"] = similarity_maps(maps, names, chance=chance)
    ranking = ranks(dict(measured), config)  # type: ignore[arg-type]
    if ranking is not None:
        pictures["critical_difference"] = critical_difference(ranking, title="Drop criteria")
    captions = {
        "accuracy_against_density": "Mean test accuracy over seeds with its 95% t interval.",
        "critical_difference": "Mean rank of each criterion over growths, densities and seeds; a bar joins criteria "
        "that Nemenyi's test does not tell apart.",
        "jaccard": f"Which connections the criteria drop from the same weights, masks and gradients: a fraction of "
        f"{config.drop_fraction:g} of every layer, mean over seeds, at density {config.similarity_density:g}.",
    }
    made = Pictures(folder, pictures, captions)
    table = ranks_table(measured, config)
    legacy = [Callout(LEGACY)] if config.legacy_selection else []
    write_report_page(
        folder,
        "Drop criteria of dynamic sparse training",
        [
            Section(
                "Result",
                [READING, *legacy, *failed_arms(failures), results_table(measured, config)],
            ),
            Section("Accuracy against density", made.shown("accuracy_against_density")),
            Section(
                "Which criterion", [*([table] if table else []), *made.shown("critical_difference")]
            ),
            Section("Do criteria choose alike?", made.shown("jaccard")),
            Section(
                "How connections moved, and what it costs",
                [movement_table(measured, config), Facts("Time and cost", timing)],
            ),
        ],
        config,
        setup.origin,
    )


def _curves(
    measured: Measured, config: DstConfig, growth: str
) -> dict[str, dict[float, list[float]]]:
    kinds: list[tuple[str, str | None, str | None]] = [("static", None, None)]
    kinds += [(c, c, growth) for c in config.criteria]
    curves: dict[str, dict[float, list[float]]] = {}
    for name, criterion, grown in kinds:
        for density in config.densities:
            arm = Arm(criterion, grown, density)
            if arm in measured:
                curves.setdefault(name, {})[density] = numbers(measured[arm]["accuracy"])
    return curves
