"""The study of layer tickets: its arms, and what it tells of them."""

from collections.abc import Callable, Mapping

from experiments._arms_job import ArmsJob
from experiments._folder import RunFolder
from experiments._progress import Progress
from experiments._report_page import print_result
from experiments.layer_tickets._config import DENSE, Arm, LayerConfig
from experiments.layer_tickets._measures import METRICS, History, measure, winning
from experiments.layer_tickets._page import result_tables, write_page
from experiments.layer_tickets._rewound import Rewinding
from experiments.layer_tickets._setup import Setup
from experiments.layer_tickets._unit import Unit
from experiments.report import comparison_record

HONEST = "Accuracy is on the test split, at the epoch of the best validation accuracy."


class Job(ArmsJob[Arm]):
    """One run of the study, ready to begin.

    Args:
      config: its settings.

    Raises:
      ValueError: a setting is out of its range, or so many blocks cannot go.
    """

    def __init__(self, config: LayerConfig):
        self._setup = Setup(config)
        super().__init__(config.arms, config.seed_numbers)

    def units(self, folder: RunFolder, progress: Progress) -> Callable[[Arm, int], Unit]:
        """Return what makes the unit of an arm and a seed."""
        rewinding = Rewinding(self._setup, folder)
        return lambda arm, seed: Unit(self._setup, folder, rewinding, progress, arm, seed)

    def report(self, folder: RunFolder, failures: Mapping[str, str], seconds: float) -> int:
        """Write summary and report, and print the table; 0 where every arm finished, else 1."""
        setup = self._setup
        config = setup.config
        history = History(folder.records())
        measured = measure(history, config)
        if DENSE not in measured:
            return 1
        timing = {
            "wall seconds of this start": round(seconds, 1),
            "of these compiling": round(setup.compile_seconds, 1),
            "architectures compiled in this start": setup.architectures,
            "images": setup.splits,
            "candidates": len(setup.found),
            "optimizer steps of a training": config.epochs * setup.steps,
        }
        table = comparison_record(
            f"{config.model} on {config.data}, scores by {config.aggregate}",
            {arm.name: values for arm, values in measured.items()},
            METRICS,
            DENSE.name,
            notes=[HONEST],
        )
        verdicts = {
            arm.name: result._asdict()
            for arm in measured
            if arm != DENSE and (result := winning(measured, arm, config)) is not None
        }
        folder.write_summary(
            {
                "reference": "the dense network",
                "tables": [table],
                "arms": table["arms"],
                "winning": verdicts,
                "aggregate": config.aggregate,
                "emission_constants": {
                    "power_kw": config.power_kw,
                    "kg_per_kwh": config.kg_per_kwh,
                    "source": "assumed",
                },
                "energy_meters": history.meters,
                "failures": failures,
                "seeds": config.seed_numbers,
                "timing": timing,
            }
        )
        write_page(folder, setup, history, failures, timing)
        return print_result(folder, failures, result_tables(measured, config))
