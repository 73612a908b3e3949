"""From records to measurements: one value per arm, seed and metric."""

from collections.abc import Sequence
from typing import Any

from experiments.foresight._config import Arm, ForesightConfig
from experiments.report import Metric, Value

Record = dict[str, Any]

METRICS = (
    Metric("accuracy", "Test accuracy", "%", ".2f", 100),
    Metric("accuracy_last", "Test accuracy, last epoch", "%", ".2f", 100),
    Metric("effective", "Kept weights on a path", "%", ".1f", 100),
    Metric("emptied", "Emptied layers", spec=".1f"),
    Metric("narrowest", "Narrowest layer", "channels", ".1f"),
    Metric("prune_seconds", "Pruning time", "s", ".2f"),
    Metric("seconds", "Training time", "s", ".2f"),
)


class History:
    """The records of a run, by arm and seed."""

    def __init__(self, records: Sequence[Record]):
        self._epochs: dict[tuple[str, int], list[Record]] = {}
        self._results: dict[tuple[str, int], Record] = {}
        for record in records:
            key = (record["arm"], record["seed"])
            if record["kind"] == "result":
                self._results[key] = record
            elif record["kind"] == "epoch":
                self._epochs.setdefault(key, []).append(record)

    def finished(self, arm: Arm, seeds: Sequence[int]) -> bool:
        """Whether every seed of the arm has its result."""
        return all((arm.name, seed) in self._results for seed in seeds)

    def result(self, arm: Arm, seed: int) -> Record:
        """Return the result of a finished training."""
        return self._results[(arm.name, seed)]

    def measured(self, arm: Arm, seed: int) -> dict[str, Value]:
        """Return the measurements of a finished training, by the keys of `METRICS`.

        Accuracy is that of the test images at the epoch of the best validation accuracy, the earliest of several.
        """
        epochs = self._epochs[(arm.name, seed)]
        best = max(epochs, key=lambda record: record["validation_accuracy"])
        result = self._results[(arm.name, seed)]
        return {
            "accuracy": best["test_accuracy"],
            "accuracy_last": epochs[-1]["test_accuracy"],
            "effective": result["effective"] / result["kept"] if result["kept"] else 0.0,
            "emptied": float(len(result["emptied"])),
            "narrowest": float(min(own for own, _ in result["widths"].values())),
            "prune_seconds": result["prune_seconds"],
            "seconds": result["seconds"],
        }


def measure(history: History, config: ForesightConfig) -> dict[Arm, dict[str, list[Value]]]:
    """Return for each finished arm and metric one value per seed."""
    found: dict[Arm, dict[str, list[Value]]] = {}
    seeds = config.seed_numbers
    for arm in config.arms:
        if history.finished(arm, seeds):
            rows = [history.measured(arm, seed) for seed in seeds]
            found[arm] = {key: [row[key] for row in rows] for key in rows[0]}
    return found
