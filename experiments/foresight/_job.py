"""The comparison of foresight methods: its arms, and what it tells of them."""

from collections.abc import Callable, Mapping

from experiments._arms_job import ArmsJob
from experiments._folder import RunFolder
from experiments._progress import Progress
from experiments._report_page import print_result
from experiments.foresight._config import DENSE, Arm, ForesightConfig
from experiments.foresight._measures import METRICS, History, measure
from experiments.foresight._page import HONEST, results_table, write_page
from experiments.foresight._setup import Setup
from experiments.foresight._unit import Unit
from experiments.report import comparison_record


class Job(ArmsJob[Arm]):
    """One run of the comparison, ready to begin.

    Args:
      config: its settings.

    Raises:
      ValueError: a setting is out of its range.
    """

    def __init__(self, config: ForesightConfig):
        self._setup = Setup(config)
        super().__init__(config.arms, config.seed_numbers)

    def units(self, folder: RunFolder, progress: Progress) -> Callable[[Arm, int], Unit]:
        """Write down the pruning set; return what makes the unit of an arm and a seed."""
        self._setup.keep_pruning_set(folder)
        return lambda arm, seed: Unit(self._setup, folder, progress, arm, seed)

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
            "of these compiling training": round(setup.compile_seconds, 1),
            "training programs compiled in this start": setup.programs,
            "images": setup.splits,
            "images in the pruning set": len(setup.chosen.rows),
            **setup.sizes(),
            "optimizer steps of a training": config.epochs * setup.steps,
        }
        tables = [
            comparison_record(
                f"{config.model} on {config.data}, density {density:g}",
                {
                    arm.name: values
                    for arm, values in measured.items()
                    if arm.density in (density, 1.0)
                },
                METRICS,
                Arm("random", density).name,
                notes=[HONEST],
            )
            for density in config.densities
            if Arm("random", density) in measured
        ]
        folder.write_summary(
            {
                "reference": "random pruning at the same density",
                "tables": tables,
                "arms": [record for table in tables for record in table["arms"]],
                "failures": failures,
                "seeds": config.seed_numbers,
                "timing": timing,
            }
        )
        write_page(folder, setup, history, measured, failures, timing)
        return print_result(folder, failures, [results_table(measured, config)])
