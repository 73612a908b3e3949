"""The report: the curve over draw epochs, the ways to train a ticket, masks, costs, settings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments._folder import RunFolder
from experiments._report_page import Pictures, write_report_page
from experiments.early_bird._history import History
from experiments.early_bird._measures import (
    ACCURACY,
    COST,
    METRICS,
    PRUNED,
    draws,
)
from experiments.early_bird._setup import Setup
from experiments.early_bird._trials import Trial
from experiments.report import (
    CostPoint,
    DistanceTrace,
    DrawCurve,
    Facts,
    HeatMap,
    Picture,
    Section,
    accuracy_by_cost,
    accuracy_by_draw,
    arm_styles,
    comparison_of,
    comparison_record,
    distance_lines,
    failed_arms,
    heat_maps,
    kept_widths,
)
from experiments.training import mask_distances

Measured = Mapping[str, Mapping[str, Sequence[Any]]]  # arm -> metric -> one value per seed

READING = """One dense training a seed, with a detector for each prune ratio looking on. Its network is pruned at
the epochs of the curve, and where the ticket emerges, and retrained with the pruned channels masked: they are exactly
zero and still computed, and counted as if they had been removed. Tickets and best epochs are decided on training
weights and validation data; test accuracy is only read. The dense network trains with the same pull on its scales."""


def percent(ratio: float) -> str:
    """Return a prune ratio as readers see it, such as ``p = 50%``."""
    return f"p = {100 * ratio:g}%"


def table_records(setup: Setup, history: History, measured: Measured) -> list[dict[str, Any]]:
    """Return for each ratio the comparison of its arms, and that of its draws, with dense training."""
    config, found = setup.config, []
    for ratio in config.prune_ratios:
        arms = {"dense": measured["dense"]}
        arms |= _of(measured, [(m, Trial(m, ratio)) for m in config.methods])
        notes = (*_without_ticket(setup, history, ratio), "Accuracy is on the test split.")
        if len(arms) > 1:
            title = f"Tickets at {percent(ratio)}"
            found.append(comparison_record(title, arms, METRICS, "dense", notes=notes))
        curve = {"dense": measured["dense"]}
        curve |= _of(
            measured, [(f"epoch {e}", Trial("draw", ratio, e)) for e in config.draw_epochs]
        )
        if len(curve) > 1:
            title = f"Retraining from a draw epoch on, at {percent(ratio)}"
            found.append(comparison_record(title, curve, (PRUNED, ACCURACY, COST), "dense"))
    return found


def curve_records(setup: Setup, history: History) -> list[dict[str, Any]]:
    """Return for each ratio the curve over draw epochs, and its tickets, as plain values."""
    config, seeds = setup.config, setup.config.seed_numbers
    records = []
    for ratio in config.prune_ratios:
        rows = draws(history, ratio, config.draw_epochs, seeds, "test_accuracy")
        records.append(
            {
                "prune_ratio": ratio,
                "draw_epochs": list(config.draw_epochs),
                "test_accuracy": [[None if np.isnan(x) else x for x in row] for row in rows],
                "emerged_at": [history.emerged_at(ratio, seed) for seed in seeds],
            }
        )
    return records


def write_page(
    folder: RunFolder,
    setup: Setup,
    history: History,
    measured: Measured,
    failures: Mapping[str, str],
    timing: Mapping[str, Any],
) -> None:
    """Write ``report.html`` and its pictures beside it."""
    pictures = _pictures(setup, history, measured)
    made = Pictures(
        folder,
        {name: figure for name, (figure, _) in pictures.items()},
        {name: caption for name, (_, caption) in pictures.items()},
    )

    def those(*starts: str) -> list[Picture]:
        return made.shown(*(name for name in pictures if name.startswith(starts)))

    sections = [
        Section(
            "Result",
            [
                READING,
                *failed_arms(failures),
                *those("draws"),
                *map(comparison_of, table_records(setup, history, measured)),
            ],
        ),
        Section("When the mask stops moving", those("mask_distance", "distances")),
        Section("What is kept", those("kept_widths")),
        Section("What it costs", [*those("accuracy"), Facts("Time and cost", timing)]),
    ]
    shown = [section for section in sections if section.blocks]
    write_report_page(folder, "Early-Bird tickets", shown, setup.config, setup.origin)


def _pictures(setup: Setup, history: History, measured: Measured) -> dict[str, tuple[Figure, str]]:
    """Return every figure with its caption."""
    config, seeds = setup.config, setup.config.seed_numbers
    found = {}
    curves = {percent(r): c for r in config.prune_ratios if (c := _curve(setup, history, r))}
    if curves:
        found["draws"] = (
            accuracy_by_draw(
                curves,
                baseline=measured["dense"]["accuracy_final"],
                ylabel="test accuracy after retraining",
            ),
            "Test accuracy at the schedule's end by the epoch of the draw: mean and one standard deviation over "
            "seeds. The grey band is the dense network's.",
        )
    size, first = sum(setup.widths), history.epochs("dense", seeds[0])
    found["mask_distance"] = (
        heat_maps(
            {
                f"{percent(ratio)}, seed {seeds[0]}": HeatMap(
                    mask_distances([r["mask"][place] for r in first], size),
                    [r["epoch"] for r in first],
                    history.emerged_at(ratio, seeds[0]),
                )
                for place, ratio in enumerate(config.prune_ratios)
            },
            stop=config.epsilon,
        ),
        "Distance between the masks of every two epochs of the dense training.",
    )
    traces = {
        percent(ratio): DistanceTrace(
            range(config.epochs + 1),
            _rows(history, seeds, place, config.window, "largest_distance"),
            _rows(history, seeds, place, config.window, "mean_distance"),
            [history.emerged_at(ratio, seed) for seed in seeds],
        )
        for place, ratio in enumerate(config.prune_ratios)
    }
    found["distances"] = (
        distance_lines(traces, stop=config.epsilon),
        "The ticket emerges where the largest distance inside the window reaches the stop line.",
    )
    styles = arm_styles(["dense", *config.methods])
    for ratio in config.prune_ratios:
        ended = [m for m in config.methods if _complete(history, ratio, m, seeds)]
        trials: dict[str, Trial] = {m: Trial(m, ratio) for m in ended}
        tag = f"{ratio:g}"
        if trials:
            found[f"kept_widths_{tag}"] = (
                kept_widths(
                    [name.removesuffix("/norm/scale") for name in setup.layers],
                    setup.widths,
                    _widths(history, trials, seeds),
                    styles=styles,
                    title=f"Channels kept in each layer, {percent(ratio)}",
                ),
                "Channels that the tickets keep; methods that share a mask are drawn once.",
            )
        points = _of(measured, [("dense", None), *trials.items()])
        path = _of(measured, [(str(e), Trial("draw", ratio, e)) for e in config.draw_epochs])
        found[f"accuracy_{tag}"] = (
            accuracy_by_cost(
                {name: _point(arm) for name, arm in points.items()},
                path=[_point(arm) for arm in path.values()],
                path_name=f"draws at epochs {', '.join(path)}",
                styles=styles,
                title=f"Accuracy by the cost of training, {percent(ratio)}",
                ylabel="test accuracy",
            ),
            f"At {percent(ratio)}: means over seeds and one standard deviation. The cost is that of the dense epochs "
            "before the draw and of retraining the network without its pruned channels, 3 x forward x images.",
        )
    return found


def _curve(setup: Setup, history: History, ratio: float) -> DrawCurve | None:
    epochs, seeds = setup.config.draw_epochs, setup.config.seed_numbers
    rows = draws(history, ratio, epochs, seeds, "test_accuracy")
    if not np.isfinite(rows).all(axis=0).any():
        return None
    chosen = draws(history, ratio, epochs, seeds, "validation_accuracy").mean(axis=0)
    tickets = []
    for seed in seeds:
        at, ends = history.emerged_at(ratio, seed), history.epochs(f"inherit-{ratio:g}", seed)
        tickets.append(None if at is None or not ends else (at, ends[-1]["test_accuracy"]))
    best = None if np.isnan(chosen).any() else epochs[int(np.argmax(chosen))]
    return DrawCurve(epochs, rows, tickets, best)


def _rows(history: History, seeds: Sequence[int], place: int, window: int, key: str) -> np.ndarray:
    """Return a distance by seed and epoch, NaN until the window is full."""
    return np.array(
        [
            [r[key][place] if r["epoch"] >= window - 1 else np.nan for r in records]
            for records in (history.epochs("dense", seed) for seed in seeds)
        ]
    )


def _widths(
    history: History, trials: Mapping[str, Trial], seeds: Sequence[int]
) -> dict[str, np.ndarray]:
    """Return the kept channels of every method whose masks are not those of one before it."""
    kept, known = {}, set()
    for method, trial in trials.items():
        results = [history.result(trial.name, seed) for seed in seeds]
        masks = tuple(r["mask"] for r in results if r)
        if masks not in known:
            known.add(masks)
            kept[method] = np.array([r["kept"] for r in results if r])
    return kept


def _complete(history: History, ratio: float, method: str, seeds: Sequence[int]) -> bool:
    """Whether every seed of a method trained a ticket."""
    results = [history.result(f"{method}-{ratio:g}", seed) for seed in seeds]
    return all(result is not None and result["outcome"] == "trained" for result in results)


def _of(measured: Measured, named: Sequence[tuple[str, Trial | None]]) -> dict[str, Any]:
    """Return what was measured of some arms, under other names; None stands for the dense training."""
    arms = {name: "dense" if trial is None else trial.name for name, trial in named}
    return {name: measured[arm] for name, arm in arms.items() if arm in measured}


def _point(arm: Mapping[str, Sequence[Any]]) -> CostPoint:
    return CostPoint(arm["training_share"], arm["accuracy_final"])


def _without_ticket(setup: Setup, history: History, ratio: float) -> list[str]:
    seeds = [s for s in setup.config.seed_numbers if history.emerged_at(ratio, s) is None]
    if not seeds:
        return []
    return [
        f"No ticket within {setup.config.epochs} epochs at {percent(ratio)}, so that nothing was drawn there: "
        f"seed {', '.join(map(str, seeds))}."
    ]
