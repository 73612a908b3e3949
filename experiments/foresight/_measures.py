"""From records to measurements: one value per arm, seed and metric."""

from experiments._history import RunHistory, measure_finished
from experiments.foresight._config import Arm, ForesightConfig
from experiments.report import Metric, Value

METRICS = (
    Metric("accuracy", "Test accuracy", "%", ".2f", 100),
    Metric("accuracy_last", "Test accuracy, last epoch", "%", ".2f", 100),
    Metric("effective", "Kept weights on a path", "%", ".1f", 100),
    Metric("emptied", "Emptied layers", spec=".1f"),
    Metric("narrowest", "Narrowest layer", "channels", ".1f"),
    Metric("prune_seconds", "Pruning time", "s", ".2f"),
    Metric("seconds", "Training time", "s", ".2f"),
)


class History(RunHistory):
    """The records of a run, by arm and seed."""

    def measured(self, arm: Arm, seed: int) -> dict[str, Value]:
        """Return the measurements of a finished training, by the keys of `METRICS`.

        Accuracy is that of the test images at the epoch of the best validation accuracy, the earliest of several.
        """
        result = self.results[(arm.name, seed)]
        return self.accuracies(arm.name, seed) | {
            "effective": result["effective"] / result["kept"] if result["kept"] else 0.0,
            "emptied": float(len(result["emptied"])),
            "narrowest": float(min(own for own, _ in result["widths"].values())),
            "prune_seconds": result["prune_seconds"],
            "seconds": result["seconds"],
        }


def measure(history: History, config: ForesightConfig) -> dict[Arm, dict[str, list[Value]]]:
    """Return for each finished arm and metric one value per seed."""
    return measure_finished(history, config.arms, config.seed_numbers, history.measured)
