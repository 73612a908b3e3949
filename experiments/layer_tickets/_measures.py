"""From records to measurements: one value per arm, seed and metric."""

from collections.abc import Mapping, Sequence

from experiments._history import RunHistory, measure_finished
from experiments.layer_tickets._config import DENSE, Arm, LayerConfig
from experiments.report import Metric, Value
from wormjax import layers
from wormjax.evaluation import emissions, emissions_saved

Measured = dict[Arm, dict[str, list[Value]]]

METRICS = (
    Metric("accuracy", "Test accuracy", "%", ".2f", 100),
    Metric("accuracy_last", "Test accuracy, last epoch", "%", ".2f", 100),
    Metric("corrupted", "Under corruptions", "%", ".2f", 100),
    Metric("fgsm", "Under FGSM", "%", ".2f", 100),
    Metric("pgd", "Under PGD", "%", ".2f", 100),
    Metric("pgd_l2", "Under PGD, L2", "%", ".2f", 100),
    Metric("calibration_error", "Calibration error", "%", ".2f", 100),
    Metric("cka", "Linear CKA to the dense network", spec=".3f"),
    Metric("macs", "MACs of an image", "M", ".3f", 1e-6),
    Metric("parameters", "Parameters", "k", ".2f", 1e-3),
    Metric("filters", "Convolution filters", spec=".0f"),
    Metric(
        "memory", "Memory by the trace", "kB", ".1f", 1e-3, "weights and activations of one image"
    ),
    Metric("measured_memory", "Memory of the compiled prediction", "MB", ".2f", 1e-6),
    Metric("seconds", "Training time", "s", ".2f"),
    Metric("speedup", "Faster training, times", spec=".2f"),
    Metric("modelled_kwh", "Energy of training, modelled", "Wh", ".3f", 1e3, "time x power"),
    Metric("measured_kwh", "Energy of training, measured", "Wh", ".3f", 1e3, "by codecarbon"),
    Metric("kg", "CO2-eq of training", "mg", ".2f", 1e6),
    Metric("kg_saved", "CO2-eq saved", "%", ".1f"),
    Metric("measured_kg", "CO2-eq of training, of the measured energy", "mg", ".2f", 1e6),
    Metric("measured_kg_saved", "CO2-eq saved, of the measured energy", "%", ".1f"),
)


class History(RunHistory):
    """The records of a run, by arm and seed."""

    @property
    def meters(self) -> list[str]:
        """What measured energy, with versions."""
        return sorted({r["energy_meter"] for r in self.results.values() if r.get("energy_meter")})

    def measured(self, arm: Arm, seed: int, config: LayerConfig) -> dict[str, Value]:
        """Return the measurements of a finished training, by the keys of `METRICS`.

        Accuracy is that of the test images at the epoch of the best validation accuracy, the earliest of several.
        """
        result, dense = (self.results[(a.name, seed)] for a in (arm, DENSE))
        found = self.accuracies(arm.name, seed)
        keys = [m.key for m in METRICS if result.get(m.key) is not None]
        found |= {key: result[key] for key in keys if key != "seconds"}
        if arm.kind == "filters" and config.filter_control == "masked":
            return found  # the whole network was trained, behind masks
        if arm.rewind_to is not None:
            return found  # before its own epochs the whole network was trained
        found["seconds"] = result["seconds"]
        found["speedup"] = dense["seconds"] / result["seconds"]
        spent, by_dense = ((record.get("energy") or {}).get("kwh") for record in (result, dense))
        if spent is not None:
            found["measured_kwh"] = spent
        if config.power_kw is not None and config.kg_per_kwh is not None:
            told, whole = (
                emissions(
                    hours=record["seconds"] / 3600,
                    power_kw=config.power_kw,
                    kg_per_kwh=config.kg_per_kwh,
                )
                for record in (result, dense)
            )
            found["modelled_kwh"] = told.kwh
            found["kg"], found["kg_saved"] = told.kg, emissions_saved(whole.kg, told.kg)
            if spent is not None and by_dense:
                found["measured_kg"] = spent * config.kg_per_kwh
                found["measured_kg_saved"] = emissions_saved(by_dense, spent)
        return found


def measure(history: History, config: LayerConfig) -> Measured:
    """Return for each finished arm and metric one value per seed."""
    if not history.finished(DENSE.name, config.seed_numbers):
        return {}
    return measure_finished(
        history,
        config.arms,
        config.seed_numbers,
        lambda arm, seed: history.measured(arm, seed, config),
    )


def winning(
    measured: Mapping[Arm, Mapping[str, Sequence[Value]]], arm: Arm, config: LayerConfig
) -> layers.Winning | None:
    """Test whether an arm wins; None for one seed, from which nobody can tell, unless that is forced."""
    if config.seeds < 2 and not config.force_single_seed:
        return None
    ticket, dense = ([float(v) for v in measured[a]["accuracy"]] for a in (arm, DENSE))  # type: ignore[arg-type]
    return layers.winning(ticket, dense, xi=config.xi, force=config.force_single_seed)


def flops_saved(measured: Mapping[Arm, Mapping[str, Sequence[Value]]], arm: Arm) -> float:
    """Return the percentage of the dense network's multiply-accumulates that an arm saves, mean over seeds."""
    small, whole = (sum(map(float, measured[a]["macs"])) for a in (arm, DENSE))  # type: ignore[arg-type]
    return 100 * (1 - small / whole)
