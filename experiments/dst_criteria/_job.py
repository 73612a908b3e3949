"""The comparison of criteria: its arms, and what it tells of them."""

from collections.abc import Callable, Mapping

from experiments._arms_job import ArmsJob
from experiments._folder import RunFolder
from experiments._progress import Progress
from experiments._report_page import print_result
from experiments.dst_criteria._config import Arm, DstConfig
from experiments.dst_criteria._measures import METRICS, History, measure, ranks
from experiments.dst_criteria._page import HONEST, LEGACY, ranks_table, results_table, write_page
from experiments.dst_criteria._setup import Setup
from experiments.dst_criteria._unit import Unit
from experiments.report import comparison_record


class Job(ArmsJob[Arm]):
    """One run of the comparison, ready to begin.

    Args:
      config: its settings.

    Raises:
      ValueError: a setting is out of its range.
    """

    def __init__(self, config: DstConfig):
        self._setup = Setup(config)
        super().__init__(config.arms, config.seed_numbers)

    def units(self, folder: RunFolder, progress: Progress) -> Callable[[Arm, int], Unit]:
        """Return what makes the unit of an arm and a seed."""
        return lambda arm, seed: Unit(self._setup, folder, progress, arm, seed)

    def report(self, folder: RunFolder, failures: Mapping[str, str], seconds: float) -> int:
        """Write summary and report, and print the tables; 0 where every arm finished, else 1."""
        setup = self._setup
        config = setup.config
        history = History(folder.records())
        measured = measure(history, config)
        reference = Arm(None, None, config.densities[0])
        if reference not in measured:
            return 1
        timing = {
            "wall seconds of this start": round(seconds, 1),
            "of these compiling": round(setup.compile_seconds, 1),
            "training programs compiled in this start": setup.programs,
            "images": setup.splits,
            **setup.sizes(),
            "optimizer steps of a training": config.epochs * setup.steps,
        }
        ranking = ranks(measured, config)
        tables = [
            comparison_record(
                f"{config.model} on {config.data}"
                + ("" if density == 1 else f", density {density:g}"),
                {arm.name: values for arm, values in measured.items() if arm.density == density},
                METRICS,
                Arm(None, None, density).name,
                notes=[LEGACY if config.legacy_selection else HONEST],
            )
            for density in (1.0, *config.densities)
            if Arm(None, None, density) in measured
        ]
        folder.write_summary(
            {
                "reference": "static training at the same density",
                "tables": tables,
                "arms": [record for table in tables for record in table["arms"]],
                "ranks": None if ranking is None else ranking.record(),
                "failures": failures,
                "seeds": config.seed_numbers,
                "timing": timing,
            }
        )
        write_page(folder, setup, history, measured, failures, timing)
        ranked = ranks_table(measured, config)
        shown = [results_table(measured, config), *([ranked] if ranked else [])]
        return print_result(folder, failures, shown)
