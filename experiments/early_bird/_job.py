"""The experiment: dense training, retrainings, and what it tells of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments._folder import RunFolder
from experiments._progress import Progress
from experiments._report_page import print_result
from experiments._units import Begun, run_units
from experiments.early_bird._config import EarlyBirdConfig
from experiments.early_bird._dense import DenseUnit
from experiments.early_bird._history import History
from experiments.early_bird._measures import measure, measure_dense
from experiments.early_bird._page import curve_records, table_records, write_page
from experiments.early_bird._retrain import RetrainUnit
from experiments.early_bird._setup import Setup
from experiments.report import comparison_of, comparison_records


class Job:
    """One run of the experiment, ready to begin.

    Args:
      config: its settings.

    Raises:
      ValueError: a setting is out of its range.
    """

    def __init__(self, config: EarlyBirdConfig):
        self._setup = Setup(config)

    @property
    def phases(self) -> int:
        """How many phases the progress display will show."""
        return len(self._setup.cohorts) * (1 + len(self._setup.config.trials))

    def run(self, folder: RunFolder, progress: Progress) -> dict[str, str]:
        """Run the dense training and every trial that is not over yet; return why arms failed."""
        setup = self._setup
        trials = {trial.name: trial for trial in setup.config.trials}

        def begin(arm: str, seeds: Sequence[int]) -> Begun:
            unit: Any
            if arm == "dense":
                unit = DenseUnit(setup, folder, progress, seeds)
            else:
                unit = RetrainUnit(setup, folder, progress, trials[arm], seeds)
            return unit.restore(), unit.run

        units = [(arm, seeds) for arm in ("dense", *trials) for seeds in setup.cohorts]
        return run_units(folder, progress, units, begin)

    def report(self, folder: RunFolder, failures: Mapping[str, str], seconds: float) -> int:
        """Write summary and report, and print the tables; 0 where every arm finished, else 1."""
        setup = self._setup
        config, seeds = setup.config, setup.config.seed_numbers
        history = History(folder.records(), config.prune_ratios)
        if not history.finished("dense", seeds):
            return 1
        measured = {"dense": measure_dense(history, setup, seeds)}
        measured |= {
            trial.name: measure(history, setup, trial, seeds)
            for trial in config.trials
            if history.finished(trial.name, seeds)
        }
        timing = {
            "wall seconds of this start": round(seconds, 1),
            **setup.spent(),
            "images": setup.splits,
            "parameters": setup.parameters,
            "multiply-accumulates an image": setup.macs,
            "training GFLOP an epoch": round(setup.epoch_flops * 1e-9, 2),
        }
        found = table_records(setup, history, measured)
        folder.write_summary(
            {
                "reference": "dense",
                "tables": found,
                "arms": comparison_records(measured, "dense"),
                "curves": curve_records(setup, history),
                "failures": failures,
                "seeds": seeds,
                "timing": timing,
            }
        )
        write_page(folder, setup, history, measured, failures, timing)
        return print_result(folder, failures, [comparison_of(record) for record in found])
