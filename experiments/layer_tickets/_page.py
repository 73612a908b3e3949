"""Tables and report of the study of layer tickets."""

from collections.abc import Mapping
from typing import Any

from experiments._folder import RunFolder
from experiments._report_page import Pictures, write_report_page
from experiments.layer_tickets._config import DENSE, Arm, LayerConfig
from experiments.layer_tickets._measures import (
    METRICS,
    History,
    Measured,
    flops_saved,
    measure,
    winning,
)
from experiments.layer_tickets._pictures import kinds_at_initialisation, middle, pictures
from experiments.layer_tickets._setup import Setup
from experiments.report import (
    Callout,
    Code,
    Column,
    Facts,
    Section,
    Table,
    accuracy_cell,
    comparison,
    failed_arms,
    summary,
)
from experiments.report._stats import scaled

READING = """Every arm of a seed begins with the same weights and sees the same batches. A ticket is scored at
initialisation, loses its p least important blocks at once, is built again as a smaller network with the weights of the
others, and is trained from the beginning. The epoch is chosen on validation images; test accuracy is only read."""

REWOUND = """Tickets of the trained network are scored at its end on training images, lose their p least important
blocks at once, go back to the weights and statistics of an earlier epoch, and are trained from there with the learning
rates and batches of the epochs that follow; momentum begins at zero. Time and CO2 of their own epochs are not compared
with those of the dense network, which had to be trained first."""

MASKED = """The filter control was trained as the whole network behind masks: it computes what the network of fewer
filters computes, and its time says nothing."""

ASSUMED = """CO2 is time x power x grid intensity with the constants named here, which were assumed and not measured;
compiling is left out of the time."""

METERED = """The measured energy is that of the machine while epochs of training ran, compiling and reading the held-out
images left out, by {}: it reads counters where processor and accelerator have them, and estimates the rest from load
and kind of the hardware."""


def result_tables(measured: Measured, config: LayerConfig) -> list[Table]:
    """Return the tables of test accuracy: of tickets at initialisation, and of rewound ones for each p."""
    first = [results_table(measured, config)] if config.criteria else []
    return first + (
        [rewound_table(measured, config, p) for p in config.removed] if config.trained else []
    )


def rewound_table(measured: Measured, config: LayerConfig, p: int) -> Table:
    """Return test accuracy by criterion of the trained network and rewind epoch."""
    rows = [
        (kind, *(_cell(measured, Arm(kind, p, i), config) for i in config.rewind_to))
        for kind in config.trained
    ]
    columns = (
        Column("Test accuracy [%]", align="left"),
        *(Column(f"epoch {i}", align="right") for i in config.rewind_to),
    )
    title = f"Blocks removed after training, rewound to an epoch, p = {p}"
    return Table(title, columns, tuple(rows), tuple(_notes(measured, config)))


def results_table(measured: Measured, config: LayerConfig) -> Table:
    """Return test accuracy by kind and number of blocks, and the paired difference to the dense network."""
    rows: list[tuple[Any, ...]] = []
    for kind in kinds_at_initialisation(config):
        cells = [_cell(measured, Arm(kind, p), config) for p in config.removed]
        rows.append((kind, *cells))
    saved = [
        f"{flops_saved(measured, Arm(found, p)):.2f} %"
        if (found := _any(measured, config, p))
        else None
        for p in config.removed
    ]
    rows.append(("MACs saved", *saved))
    columns = (
        Column("Test accuracy [%]", align="left"),
        *(Column(f"p = {p}", align="right") for p in config.removed),
    )
    notes = tuple(_notes(measured, config))
    return Table("Blocks removed at initialisation", columns, tuple(rows), notes)


def _notes(measured: Measured, config: LayerConfig) -> list[str]:
    """What stands under a table of test accuracy."""
    notes = [
        "Mean ± sample standard deviation over seeds; under it the paired difference to the dense network with its "
        f"95% t interval, not corrected for several comparisons, and whether it wins (mean difference "
        f"+ {100 * config.xi:g} "
        "points at least 0; certain where the whole interval is)."
        if config.seeds > 1
        else "One seed: nothing is called winning.",
    ]
    if DENSE in measured:
        values = [scaled(v, 100) for v in measured[DENSE]["accuracy"]]
        notes.insert(0, f"Dense training: {summary(values).text('.2f')} %.")
    return notes


def cost_table(measured: Measured, config: LayerConfig) -> Table:
    """Return everything that was measured, for the first criterion, the control and the dense network."""
    shown = [DENSE, *(Arm(k, p) for k in (*config.criteria[:1], "filters") for p in config.removed)]
    arms = {arm.name: measured[arm] for arm in shown if arm in measured}
    notes = [MASKED.replace("\n", " ")] if config.filter_control == "masked" else []
    return comparison("Everything measured", arms, METRICS, DENSE.name, notes=notes)


def stages_table(history: History, config: LayerConfig) -> Table | None:
    """Return from which stages the criteria take blocks, by the sum and by the mean of their weights' scores."""
    rows = []
    for kind in config.criteria:
        found = [
            r
            for r in history.results.values()
            if r["arm"].startswith(f"{kind}-") and r["per_stage"]
        ]
        if not found:
            continue
        for how in ("sum", "mean"):
            stages = sorted(found[0]["per_stage"][how], key=int)
            counts = [sum(r["per_stage"][how][s] for r in found) for s in stages]
            rows.append(
                (
                    f"{kind}, {how}",
                    ", ".join(f"{s}: {n}" for s, n in zip(stages, counts, strict=True)),
                )
            )
    if not rows:
        return None
    note = f"Over all p and seeds. The run itself used the {config.aggregate}."
    return Table(
        "Stages that lose blocks",
        (Column("Criterion"), Column("stage: blocks")),
        tuple(rows),
        (note,),
    )


def write_page(
    folder: RunFolder,
    setup: Setup,
    history: History,
    failures: Mapping[str, str],
    timing: Mapping[str, Any],
) -> None:
    """Write ``report.html`` and its pictures beside it."""
    config = setup.config
    measured = measure(history, config)
    at = f"At p = {middle(config.removed)}, "
    if config.trained:
        at += f"tickets of the trained network from epoch {middle(config.rewind_to)}, "
    captions = {
        "accuracy_by_blocks": "Mean test accuracy over seeds with its 95% t interval.",
        "robustness": f"{at}on {len(setup.robust[1])} test images: the mean over "
        f"{len(setup.corrupted)} corruptions (severities {', '.join(map(str, config.severities))}), and attacks of "
        f"radius {config.epsilon:.3g} in L-infinity.",
        "speedup": "Training time without compiling, one point a seed. Small networks wait for the host.",
    }
    rewound = {
        f"accuracy_by_rewind_epoch_{p}": f"p = {p}: mean test accuracy over seeds with its 95% t interval."
        for p in config.removed
    }
    made = Pictures(folder, pictures(measured, config), captions | rewound)
    constants = {
        "power [kW], assumed": config.power_kw,
        "grid intensity [kg CO2-eq / kWh], assumed": config.kg_per_kwh,
    }
    carbon: list[Any] = (
        [Callout(ASSUMED), Facts("Constants", constants)] if config.power_kw is not None else []
    )
    if history.meters:
        carbon.append(Callout(METERED.replace("\n", " ").format(", ".join(history.meters))))
    readings = [READING] if config.criteria else []
    readings += [REWOUND] if config.trained else []
    stages = stages_table(history, config)
    write_report_page(
        folder,
        "Layer tickets",
        [
            Section(
                "Result", [*readings, *failed_arms(failures), *result_tables(measured, config)]
            ),
            Section("Accuracy against blocks removed", made.shown("accuracy_by_blocks")),
            *(
                [Section("Accuracy against the epoch gone back to", made.shown(*rewound))]
                if config.trained
                else []
            ),
            Section("Robustness", made.shown("robustness")),
            Section("Time against operations", made.shown("speedup")),
            Section("Cost", [cost_table(measured, config), *carbon, *([stages] if stages else [])]),
            Section("Candidates", [Code(setup.found.explain())]),
        ],
        config,
        setup.origin,
        Facts("Time", timing),
    )


def _any(measured: Measured, config: LayerConfig, p: int) -> str | None:
    """A kind of layer ticket that finished with p blocks less; all of them save the same where blocks are alike."""
    return next((k for k in config.criteria if Arm(k, p) in measured), None)


def _cell(measured: Measured, arm: Arm, config: LayerConfig) -> tuple[str, ...] | None:
    lines = accuracy_cell(measured, arm, DENSE)
    if lines is None:
        return None
    result = winning(measured, arm, config)
    if result is not None:
        verdict = "wins" if result.wins else "loses"
        lines += (f"{verdict}, certain" if result.wins and result.certain else verdict,)
    return lines
