"""From records to measurements: one value per arm, seed and metric."""

import math
from collections.abc import Sequence

import numpy as np

from experiments._history import Record, RunHistory
from experiments.report import Censored, Metric, Value
from experiments.training import mask_from_text
from experiments.worm._config import WormConfig

METRICS = (
    Metric("epochs_to_ticket", "Epochs to ticket", spec=".1f"),
    Metric(
        "search_seconds",
        "Search time",
        "s",
        ".2f",
        note="training and detection; without compilation and evaluation.",
    ),
    Metric("search_flops", "Search", "GFLOP", ".1f", 1e-9, "3 x forward x images, 2 FLOPs a MAC."),
    Metric("accuracy_before", "Accuracy before pruning", "%", ".2f", 100),
    Metric("accuracy_pruned", "Accuracy right after", "%", ".2f", 100),
    Metric("accuracy_one_epoch", "Accuracy after one epoch", "%", ".2f", 100),
    Metric("accuracy_final", "Accuracy at the end", "%", ".2f", 100),
    Metric(
        "epochs_to_target",
        "Epochs to restore the target",
        spec=".1f",
        note="retraining epochs until the validation accuracy reaches the target, censored at the end.",
    ),
    Metric(
        "jaccard",
        "Jaccard with the final mask",
        spec=".3f",
        note="kept channels of the ticket against those of the mask that the same seed has at the end of "
        "untruncated dense training. Truncation lowers the mask distance by construction, so an early "
        "ticket proves nothing alone.",
    ),
    Metric("total_seconds", "Search and retraining time", "s", ".2f"),
)


class History(RunHistory):
    """The records of a run, by arm and seed.

    Args:
      records: from ``metrics.jsonl``.
    """

    def __init__(self, records: Sequence[Record]):
        super().__init__(records)
        self._speeds = {record["arm"]: record for record in records if record["kind"] == "speed"}

    def searched(self, arm: str, seed: int) -> list[Record]:
        """The records of a search, or of dense training, one at the top of every epoch."""
        return [record for record in self.epochs(arm, seed) if record["phase"] == "search"]

    def retrained(self, arm: str, seed: int) -> list[Record]:
        """The records of a retraining; the first is the network right after pruning."""
        return [record for record in self.epochs(arm, seed) if record["phase"] == "retrain"]

    def speed(self, arm: str) -> Record | None:
        """What one of the arm's tickets costs by the clock, or why that is not known; None before."""
        return self._speeds.get(arm)


def measure(
    history: History,
    config: WormConfig,
    arm: str,
    seeds: Sequence[int],
    epoch_flops: int,
    size: int,
) -> dict[str, list[Value]]:
    """Return for each metric one value per seed; None where a seed has none.

    Args:
      history: the records.
      config: the run's config.
      arm: a finished arm.
      seeds: the seeds, in order.
      epoch_flops: floating-point operations of one epoch.
      size: entries of a mask.
    """
    rows = [_one(history, config, arm, seed, epoch_flops, size) for seed in seeds]
    return {key: [row[key] for row in rows] for key in rows[0]}


def _one(
    history: History, config: WormConfig, arm: str, seed: int, epoch_flops: int, size: int
) -> dict[str, Value]:
    result = history.result(arm, seed)
    assert result is not None
    share = result["cohort"]  # seeds that ran together share the clock
    seconds = (result["search_seconds"] + result["retrain_seconds"]) / share
    searched, retrained = history.searched(arm, seed), history.retrained(arm, seed)
    if arm == "dense":
        return {"accuracy_final": searched[-1]["test_accuracy"], "total_seconds": seconds}
    emerged = result["emerged_at"]
    row: dict[str, Value] = {
        "epochs_to_ticket": Censored(config.search_cap) if emerged is None else emerged,
        "search_seconds": result["search_seconds"] / share,
        "search_flops": epoch_flops * (config.search_cap if emerged is None else emerged),
        "accuracy_before": None,
        "accuracy_pruned": None,
        "accuracy_one_epoch": None,
        "accuracy_final": None,
        "epochs_to_target": None,
        "jaccard": None,
        "total_seconds": seconds,
    }
    if emerged is None:
        return row
    at = searched[emerged]
    row["accuracy_before"] = at["test_accuracy"]
    row["accuracy_pruned"] = retrained[0]["test_accuracy"]
    row["accuracy_one_epoch"] = retrained[1]["test_accuracy"]
    row["accuracy_final"] = retrained[-1]["test_accuracy"]
    reached = [
        i for i, r in enumerate(retrained) if i and r["validation_accuracy"] >= config.target
    ]
    row["epochs_to_target"] = reached[0] if reached else Censored(len(retrained) - 1)
    dense = history.searched("dense", seed)
    if dense and len(dense) == config.epochs + 1:
        row["jaccard"] = _jaccard(at["mask"], dense[-1]["mask"], size)
    return row


def _jaccard(a: str, b: str, size: int) -> float:
    x, y = mask_from_text(a, size), mask_from_text(b, size)
    return float((x & y).sum() / max((x | y).sum(), 1))


def flops_curve(
    history: History, arm: str, seed: int, epoch_flops: int
) -> tuple[list[float], list[float]]:
    """Return cumulative training FLOPs and validation accuracy of a seed, search and retraining.

    An epoch of a shrunk network costs the share of its multiply-accumulates.
    """
    searched, retrained = history.searched(arm, seed), history.retrained(arm, seed)
    share = (history.result(arm, seed) or {}).get("retrain_share", 1.0)
    spent = [float(r["epoch"] * epoch_flops) for r in searched]
    spent += [
        (drawn["epoch"] + share * (r["epoch"] - drawn["epoch"])) * epoch_flops
        for drawn, r in ((retrained[0], r) for r in retrained)
    ]
    return spent, [r["validation_accuracy"] for r in searched + retrained]


def distance_rows(
    history: History, arm: str, seeds: Sequence[int], epochs: int, window: int, key: str
) -> np.ndarray:
    """Return a distance by seed and epoch, NaN until the window is full and after the search."""
    rows = np.full((len(seeds), epochs), math.nan)
    for i, seed in enumerate(seeds):
        for record in history.searched(arm, seed):
            if window - 1 <= record["epoch"] < epochs:
                rows[i, record["epoch"]] = record[key]
    return rows
