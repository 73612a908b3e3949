"""The report of the main job: what came out, four pictures, what it costs, the settings."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments._folder import RunFolder
from experiments._report_page import Pictures, write_report_page
from experiments.report import (
    AccuracyCurve,
    DistanceTrace,
    Facts,
    HeatMap,
    Section,
    accuracy_against_flops,
    arm_styles,
    comparison_of,
    comparison_record,
    distance_lines,
    failed_arms,
    heat_maps,
    kept_widths,
)
from experiments.training import mask_distances
from experiments.worm._config import WormConfig
from experiments.worm._measures import METRICS, History, distance_rows, flops_curve
from experiments.worm._setup import Setup
from experiments.worm._speed_table import speed_section

MAPPED = ("dense", "standard", "worm")  # the arms whose heat maps are drawn

READING = {
    "masked": """An arm searches until its ticket emerges, prunes the channels that the ticket does not keep, and
retrains the rest under the ticket's masks up to the epoch at which dense training ends. Masked channels are
exactly zero and still computed. Tickets, targets and stopping are decided on training weights and validation data;
test accuracy is only read.""",
    "shrunk": """An arm searches until its ticket emerges, removes the channels that the ticket does not keep, and
retrains the smaller network up to the epoch at which dense training ends. Tickets, targets and stopping are decided on
training weights and validation data; test accuracy is only read.""",
}

COST = {
    "masked": "Training is masked, so that retraining costs what dense training costs.",
    "shrunk": "An epoch of a shrunk network costs its share of the multiply-accumulates.",
}


def results_record(
    measured: Mapping[str, Mapping[str, Sequence[Any]]], config: WormConfig, history: History
) -> dict[str, Any]:
    """Return the comparison with Early-Bird (``standard``); its notes name searches without a ticket."""
    shown = [
        dataclasses.replace(m, title=f"{m.title} ({100 * config.target:g}%)")
        if m.key == "epochs_to_target"
        else m
        for m in METRICS
    ]
    kept = 1 - config.prune_ratio
    notes = (
        *_without_ticket(measured, config, history),
        "Accuracy is on the test split.",
        f"A random mask of the same size has an expected Jaccard of about {kept / (2 - kept):.2f}.",
    )
    title = f"Tickets against Early-Bird: {config.model} on {config.data}"
    return comparison_record(title, measured, shown, "standard", notes=notes)


def _without_ticket(arms: Iterable[str], config: WormConfig, history: History) -> list[str]:
    names = [
        f"{arm}, seed {seed}"
        for arm in arms
        for seed in config.seed_numbers
        if (history.result(arm, seed) or {}).get("outcome") == "no_ticket"
    ]
    if not names:
        return []
    return [
        f"No ticket within {config.search_cap} epochs, so that nothing was pruned or retrained: "
        f"{'; '.join(names)}."
    ]


def write_page(
    folder: RunFolder,
    setup: Setup,
    history: History,
    measured: Mapping[str, Mapping[str, Sequence[Any]]],
    failures: Mapping[str, str],
    timing: Mapping[str, Any],
) -> None:
    """Write ``report.html`` and its pictures beside it."""
    config = setup.config
    seeds = config.seed_numbers
    arms = list(measured)
    styles = arm_styles(arms)
    size = sum(setup.widths)
    emerged = {a: [(history.result(a, s) or {}).get("emerged_at") for s in seeds] for a in arms}
    searching = [a for a in arms if a != "dense"]
    length = max(len(history.searched(a, s)) for a in searching for s in seeds)

    maps = {
        f"{arm}, seed {seeds[0]}": HeatMap(
            mask_distances([r["mask"] for r in history.searched(arm, seeds[0])], size),
            [r["epoch"] for r in history.searched(arm, seeds[0])],
            emerged["standard" if arm == "dense" else arm][0],
        )
        for arm in MAPPED
        if arm in arms
    }
    traces = {
        arm: DistanceTrace(
            range(length),
            distance_rows(history, arm, seeds, length, config.window, "largest_distance"),
            distance_rows(history, arm, seeds, length, config.window, "mean_distance"),
            emerged[arm],
        )
        for arm in searching
    }
    curves = {}
    for arm in arms:
        pairs = [flops_curve(history, arm, seed, setup.epoch_flops) for seed in seeds]
        curves[arm] = AccuracyCurve([f for f, _ in pairs], [a for _, a in pairs])
    widths = {
        arm: np.array(
            [
                history.searched(arm, s)[e if e is not None else -1]["kept"]
                for s, e in zip(seeds, emerged[arm], strict=True)
            ]
        )
        for arm in arms
    }
    pictures = {
        "mask_distance": heat_maps(maps, stop=config.epsilon),
        "distances": distance_lines(
            traces, stop=config.epsilon, trigger=float(config.trigger), styles=styles
        ),
        "kept_widths": kept_widths(
            [name.removesuffix("/norm/scale") for name in setup.layers],
            setup.widths,
            widths,
            styles=styles,
        ),
        "accuracy": accuracy_against_flops(
            curves, target=config.target, styles=styles, ylabel="validation accuracy"
        ),
    }
    captions = {
        "mask_distance": "Distance between the masks of every two epochs. Dense training carries the "
        "epoch at which plain Early-Bird drew its ticket.",
        "distances": "The ticket emerges where the largest distance reaches the stop line; WORM "
        "truncates from where the mean falls below the trigger line. Lines are means over the seeds that "
        "still search, bands reach from the least to the greatest seed.",
        "kept_widths": "Channels that the tickets keep; where an arm has none, as dense training, what its "
        "last mask would keep. Bars are means, whiskers reach from the least to the greatest seed.",
        "accuracy": f"{COST[config.retrain]} A mean is broken where some seeds are pruned and "
        "others not yet. Faint lines are seeds; they fall where a network is pruned.",
    }
    made = Pictures(folder, pictures, captions)

    speeds = [record for arm in arms if (record := history.speed(arm))]
    write_report_page(
        folder,
        "Early-Bird and WORM tickets",
        [
            Section(
                "Result",
                [
                    READING[config.retrain],
                    *failed_arms(failures),
                    comparison_of(results_record(measured, config, history)),
                ],
            ),
            Section("When the mask stops moving", made.shown("mask_distance", "distances")),
            Section("What is kept", made.shown("kept_widths")),
            Section("What it costs", [*made.shown("accuracy"), Facts("Time and cost", timing)]),
            *([speed_section(setup, history, speeds)] if speeds else []),
        ],
        config,
        setup.origin,
    )
