"""From records to measurements: one value per arm, seed and metric."""

from collections.abc import Sequence

import numpy as np

from experiments._history import Record, RunHistory, measure_finished
from experiments.dst_criteria._config import Arm, DstConfig
from experiments.report import Metric, Ranks, Value, friedman

METRICS = (
    Metric("accuracy", "Test accuracy", "%", ".2f", 100),
    Metric("accuracy_last", "Test accuracy, last epoch", "%", ".2f", 100),
    Metric("explored", "Explored (R_s)", spec=".3f"),
    Metric("overlap", "Overlap of first and last mask", spec=".3f"),
    Metric("dead_units", "Units without inputs", spec=".1f"),
    Metric("training_flops", "Training", "GFLOP", ".2f", 1e-9),
    Metric("seconds", "Training time", "s", ".2f"),
)


class History(RunHistory):
    """The records of a run, by arm and seed.

    Args:
      records: from ``metrics.jsonl``.
    """

    def __init__(self, records: Sequence[Record]):
        super().__init__(records)
        self._similar: dict[str, list[Record]] = {}
        for record in records:
            if record["kind"] == "similarity":
                self._similar.setdefault(record["when"], []).append(record)

    def measured(self, arm: Arm, seed: int, legacy_selection: bool) -> dict[str, Value]:
        """Return the measurements of a finished training, by the keys of `METRICS`.

        Accuracy is that of the test images at the epoch of the best validation accuracy, the earliest of several;
        under ``legacy_selection`` at that of the best test accuracy.
        """
        judge = "test_accuracy" if legacy_selection else "validation_accuracy"
        result = self.results[(arm.name, seed)]
        found = self.accuracies(arm.name, seed, judge) | {"seconds": result["seconds"]}
        if arm.name != "dense":
            found["explored"] = self.epochs(arm.name, seed)[-1]["explored"]
            found |= {k: result[k] for k in ("overlap", "dead_units", "training_flops")}
        return found

    def similarity(self, when: str) -> tuple[list[str], np.ndarray] | None:
        """Return the names of the criteria and the mean Jaccard matrix over seeds; None where there is none."""
        records = self._similar.get(when, [])
        if not records:
            return None
        return records[0]["criteria"], np.mean([r["jaccard"] for r in records], axis=0)


def measure(history: History, config: DstConfig) -> dict[Arm, dict[str, list[Value]]]:
    """Return for each finished arm and metric one value per seed."""
    return measure_finished(
        history,
        config.arms,
        config.seed_numbers,
        lambda arm, seed: history.measured(arm, seed, config.legacy_selection),
    )


def ranks(
    measured: dict[Arm, dict[str, list[Value]]], config: DstConfig, growth: str | None = None
) -> Ranks | None:
    """Rank the criteria by accuracy over settings: growth, density and seed.

    Args:
      measured: from `measure`.
      config: the run's config.
      growth: only settings with this growth; None takes all.

    Returns:
      `Ranks`, or None below two criteria or two complete settings.
    """
    growths = config.growths if growth is None else (growth,)
    values: dict[str, list[float]] = {c: [] for c in config.criteria}
    for g in growths:
        for d in config.densities:
            arms = [Arm(c, g, d) for c in config.criteria]
            if all(arm in measured for arm in arms):
                for c, arm in zip(config.criteria, arms, strict=True):
                    values[c] += [float(x) for x in measured[arm]["accuracy"]]  # type: ignore[arg-type]
    if len(values) < 2 or len(next(iter(values.values()))) < 2:
        return None
    return friedman(values)
