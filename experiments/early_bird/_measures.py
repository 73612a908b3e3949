"""From records to measurements: one value per arm, seed and metric."""

from collections.abc import Sequence

import numpy as np

from experiments.early_bird._history import History, Record
from experiments.early_bird._setup import Setup
from experiments.early_bird._trials import Trial, training_cost
from experiments.report import Metric, Value
from experiments.training import mask_from_text

ACCURACY = Metric("accuracy_final", "Accuracy at the end", "%", ".2f", 100)
PRUNED = Metric("accuracy_pruned", "Accuracy right after pruning", "%", ".2f", 100)
COST = Metric(
    "training_share",
    "Training, of the dense one",
    "%",
    ".1f",
    100,
    "3 x forward x images, 2 FLOPs a multiply-accumulate: the dense epochs before the draw, and the "
    "retraining at the cost of the network without its pruned channels. Detection and scores are left out.",
)

METRICS = (
    Metric(
        "epochs_to_ticket",
        "Epochs to the draw",
        spec=".1f",
        note="dense epochs before the mask is drawn.",
    ),
    PRUNED,
    ACCURACY,
    Metric(
        "accuracy_best",
        "Accuracy, best by validation",
        "%",
        ".2f",
        100,
        "test accuracy at the epoch of the best validation accuracy, the first of equals.",
    ),
    Metric("training_flops", "Training", "GFLOP", ".1f", 1e-9),
    COST,
    Metric("macs_share", "Multiply-accumulates kept", "%", ".1f", 100),
    Metric("parameters", "Parameters", spec=".0f"),
    Metric(
        "jaccard",
        "Jaccard with the final mask",
        spec=".3f",
        note="kept channels of the ticket against those that the dense network's scales keep at its end.",
    ),
)


def best_epoch(records: Sequence[Record]) -> Record:
    """Return the record of the best validation accuracy, the first of equals; test accuracy is not asked."""
    return max(records, key=lambda record: record["validation_accuracy"])


def measure_dense(history: History, setup: Setup, seeds: Sequence[int]) -> dict[str, list[Value]]:
    """Return for each metric of the dense training one value per seed."""
    rows = []
    for seed in seeds:
        records = history.epochs("dense", seed)
        rows.append(
            {
                "accuracy_final": records[-1]["test_accuracy"],
                "accuracy_best": best_epoch(records)["test_accuracy"],
                "training_flops": setup.config.epochs * setup.epoch_flops,
                "training_share": 1.0,
                "macs_share": 1.0,
                "parameters": setup.parameters,
            }
        )
    return {key: [row[key] for row in rows] for key in rows[0]}


def measure(
    history: History, setup: Setup, trial: Trial, seeds: Sequence[int]
) -> dict[str, list[Value]]:
    """Return for each metric one value per seed; None where a seed has no ticket.

    Args:
      history: the records.
      setup: for costs.
      trial: finished by every seed.
      seeds: the seeds, in order.
    """
    rows = [_one(history, setup, trial, seed) for seed in seeds]
    left_out = set() if trial.rule.weights == "drawn" else {PRUNED.key}  # nothing was trained yet
    keys = [metric.key for metric in METRICS if metric.key not in left_out]
    return {key: [row.get(key) for row in rows] for key in keys}


def _one(history: History, setup: Setup, trial: Trial, seed: int) -> dict[str, Value]:
    result, records = history.result(trial.name, seed), history.epochs(trial.name, seed)
    if result is None or result["outcome"] == "no_ticket":
        return {}
    epochs = setup.config.epochs
    cost = training_cost(1.0, result["share"], result["drawn_at"], result["start"], epochs)
    final = history.mask(trial.ratio, seed, epochs, sum(setup.widths))
    mask = mask_from_text(result["mask"], sum(setup.widths))
    return {
        "epochs_to_ticket": result["drawn_at"],
        "accuracy_pruned": records[0]["test_accuracy"],
        "accuracy_final": records[-1]["test_accuracy"],
        "accuracy_best": best_epoch(records)["test_accuracy"],
        "training_flops": cost * setup.epoch_flops,
        "training_share": cost / epochs,
        "macs_share": result["share"],
        "parameters": result["parameters"],
        "jaccard": float((mask & final).sum() / (mask | final).sum()),
    }


def draws(
    history: History, ratio: float, epochs: Sequence[int], seeds: Sequence[int], key: str
) -> np.ndarray:
    """Return an accuracy at the end of every draw's retraining, ``(S, E)``; NaN where there is none."""
    names = [Trial("draw", ratio, epoch).name for epoch in epochs]
    rows = [[history.epochs(name, seed)[-1:] for name in names] for seed in seeds]
    return np.array([[r[0][key] if r else np.nan for r in row] for row in rows])
