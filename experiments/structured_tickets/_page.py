"""Tables, pictures and report of the comparison of structured tickets."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments._folder import RunFolder
from experiments._report_page import Pictures, write_report_page
from experiments.report import (
    Column,
    Facts,
    Section,
    Table,
    accuracy_against_density,
    accuracy_against_time,
    arm_styles,
    failed_arms,
    mask_pictures,
    paired,
    summary,
)
from experiments.structured_tickets._config import TicketConfig
from experiments.structured_tickets._measures import Point, Winning
from experiments.structured_tickets._setup import Setup
from experiments.structured_tickets._unit import before_of, blocks_of
from wormjax.lottery import BlockList

Found = Mapping[str, list[Point]]

READING = """A seed's tickets share its first weights, its rewinding point and its batches. Masks come from the end of
iterative pruning's rounds; each structured ticket is trained once from the rewinding point. imp and one_shot choose by
magnitude; random has the channels of refill in number, drawn; one_shot is refill of a mask that was pruned at once.
Accuracy is that of the last epoch; which ticket wins is decided on validation images, and test accuracy is only
read."""

DENSITIES = """Nominal is what papers print: the weights that masks keep over all that may be pruned. Executed is what a
network multiplies with when it runs: an unstructured mask runs dense and counts 1, a refilled network counts what is
left of its arrays, a regrouped one its blocks."""


def accuracy_table(found: Found) -> Table:
    """Return test accuracy, both densities and the speed-up of every method and round."""
    dense = [100 * v for v in found["dense"][0].test]
    rows: list[tuple[Any, ...]] = [("dense", 0, 1.0, 1.0, None, summary(dense).lines(".2f"), None)]
    for method, of in found.items():
        for p in of if method != "dense" else ():
            values = [100 * v for v in p.test]
            cell = (*summary(values).lines(".2f"), paired(values, dense).text(".2f"))
            fast = next((t["speedup"] for t in p.latency.values()), None)
            densities = float(np.mean(p.nominal)), float(np.mean(p.executed))
            rows.append((method, p.round, *densities, p.macs_share, cell, fast))
    columns = (
        Column("Method"),
        Column("round", spec="d"),
        Column("nominal density", spec=".3f"),
        Column("executed density", spec=".3f"),
        Column("MACs", "share", spec=".3f", note="MACs and speed-up: the first seed's network."),
        Column("test accuracy", "%", align="right"),
        Column("speed-up", spec=".2f", note="Times as fast as the dense network, on this machine."),
    )
    notes = (
        "Mean ± sample standard deviation over seeds; under it the paired difference to dense training with its 95% t "
        "interval, not corrected for several comparisons.",
    )
    return Table("Structured tickets against dense training", columns, tuple(rows), notes)


def winning_table(best: Mapping[str, Winning], config: TicketConfig) -> Table:
    """Return the sparsest ticket of each method that wins."""
    rows: list[tuple[Any, ...]] = []
    for method, (point, margin) in best.items():
        if point is None:
            rows.append((method, "none wins", None, None, None, None))
            continue
        sparsity = 100 * (1 - float(np.mean(point.nominal)))
        skipped = 100 * (1 - float(np.mean(point.executed)))
        test = summary([100 * v for v in point.test]).text(".2f")
        rows.append((method, point.round, sparsity, skipped, margin, test))
    columns = (
        Column("Method"),
        Column("round", align="right"),
        Column("extreme winning sparsity", "%", spec=".1f"),
        Column("weights not multiplied with", "%", spec=".1f"),
        Column("validation, against dense", "points", spec="+.2f"),
        Column("test accuracy", "%", align="right"),
    )
    note = (
        f"A ticket wins when its mean validation accuracy over {config.seeds} seeds, paired, is at most "
        f"{config.tolerance:g} points below dense training."
    )
    return Table("The sparsest ticket that wins", columns, tuple(rows), (note,))


def write_page(
    folder: RunFolder,
    setup: Setup,
    found: Found,
    best: Mapping[str, Winning],
    failures: Mapping[str, str],
    timing: Mapping[str, Any],
) -> None:
    """Write ``report.html`` and its pictures beside it."""
    config = setup.config
    pictures = _pictures(found)
    last = config.structured_rounds[-1]
    blocks = blocks_of(folder, last)
    if blocks is not None:
        pictures |= _mask_picture(blocks, before_of(folder, last))
    captions = {
        "accuracy_against_density": "Mean test accuracy over seeds with its 95% t interval, against nominal density.",
        "accuracy_against_executed": "The same points against the weights that are multiplied with.",
        "accuracy_against_latency": "Test accuracy against the time of a forward pass, as a share of the dense "
        "network's in the same minute on this machine; the first seed's networks are timed.",
        "masks": f"The widest layer at round {last} of the first seed: the mask of iterative pruning, the blocks, and "
        "the blocks with rows in the order of their groups; shades are fractions of a window that are kept.",
    }
    made = Pictures(folder, pictures, captions)
    write_report_page(
        folder,
        "Structurally sparse lottery tickets",
        [
            Section("Result", [READING, *failed_arms(failures), winning_table(best, config)]),
            Section(
                "Accuracy against density",
                [DENSITIES, *made.shown("accuracy_against_density", "accuracy_against_executed")],
            ),
            Section("Accuracy against time", made.shown("accuracy_against_latency")),
            Section("Every ticket", [accuracy_table(found)]),
            Section("Masks before and after regrouping rows", made.shown("masks")),
        ],
        config,
        setup.origin,
        Facts("Time and size", timing),
    )


def _pictures(found: Found) -> dict[str, Figure]:
    dense, pruned = found["dense"][0], {m: of for m, of in found.items() if m != "dense"}
    styles = arm_styles(["dense", *pruned])
    made: dict[str, Figure] = {}
    for name, key in (
        ("accuracy_against_density", "nominal"),
        ("accuracy_against_executed", "executed"),
    ):
        curves = {
            method: {round(float(np.mean(getattr(p, key))), 3): p.test for p in of}
            for method, of in pruned.items()
            if not (key == "executed" and method == "imp")  # it runs dense
        }
        if any(curves.values()):
            made[name] = accuracy_against_density(
                {f"{key} density": curves},
                levels={"dense": dense.test},
                styles=styles,
                ticks=(0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0),
            )
    timed = {
        method: [(t["ticket"] / t["dense"], p.test[0]) for p in of for t in _first(p)]
        for method, of in pruned.items()
    }
    if any(timed.values()):
        made["accuracy_against_latency"] = accuracy_against_time(
            {method: of for method, of in timed.items() if of}, dense=dense.test[0], styles=styles
        )
    return made


def _first(point: Point) -> list[Mapping[str, float]]:
    """The times at the first batch size, where there are some."""
    return list(point.latency.values())[:1]


def _mask_picture(blocks: BlockList, before: Mapping[str, np.ndarray]) -> dict[str, Figure]:
    """The widest layer: its mask before, its blocks, and its blocks group by group."""
    layers = {name: layer for name, layer in blocks.layers.items() if layer.form == "blocks"}
    if not layers:
        return {}
    name, layer = max(layers.items(), key=lambda item: item[1].shape[0] * item[1].columns)
    mask = layer.mask()
    rows = np.concatenate([b.rows for b in layer.blocks])
    columns = np.argsort(-mask.sum(axis=0), kind="stable")
    pictures = {
        "before": before[name],
        "blocks": mask,
        "blocks, by row group": mask[rows][:, columns],
    }
    return {"masks": mask_pictures(pictures, xlabel="input channel", ylabel="output channel")}
