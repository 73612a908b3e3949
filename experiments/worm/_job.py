"""The main job: its arms, one after another, and what it tells of them."""

from collections.abc import Mapping, Sequence

from experiments._folder import RunFolder
from experiments._progress import Progress
from experiments._report_page import print_result
from experiments._units import Begun, run_units
from experiments.report import Value, comparison_of, comparison_records
from experiments.worm._config import WormConfig
from experiments.worm._measures import History, measure
from experiments.worm._page import results_record, write_page
from experiments.worm._search import compile_seconds
from experiments.worm._setup import Setup
from experiments.worm._speed import SpeedTest
from experiments.worm._speed_table import speed_summary, speed_table
from experiments.worm._unit import Unit


class Job:
    """One run of the main job, ready to begin.

    Args:
      config: its settings.

    Raises:
      ValueError: a setting is out of its range.
    """

    def __init__(self, config: WormConfig):
        self._setup = Setup(config)
        self._speed = SpeedTest(self._setup) if config.speed_rounds else None

    @property
    def phases(self) -> int:
        """How many phases the progress display will show."""
        arms = self._setup.config.all_arms
        searching = sum(1 for arm in arms if arm != "dense")
        timed = searching if self._speed else 0
        return len(self._setup.cohorts) * (len(arms) + searching) + timed

    def run(self, folder: RunFolder, progress: Progress) -> dict[str, str]:
        """Run every arm and cohort that is not over yet; return why arms failed."""
        setup = self._setup

        def begin(arm: str, seeds: Sequence[int]) -> Begun:
            unit = Unit(setup, folder, progress, arm, seeds)
            start, position = unit.restore()
            speed = None if _is_timed(folder, arm) else self._speed
            return position, lambda log: unit.run(log, start, speed)

        units = [(arm, seeds) for arm in setup.config.all_arms for seeds in setup.cohorts]
        return run_units(folder, progress, units, begin)

    def report(self, folder: RunFolder, failures: Mapping[str, str], seconds: float) -> int:
        """Write summary and report, and print the tables; 0 where every arm finished, else 1."""
        setup = self._setup
        config = setup.config
        seeds = config.seed_numbers
        history = History(folder.records())
        measured: dict[str, dict[str, list[Value]]] = {
            arm: measure(history, config, arm, seeds, setup.epoch_flops, sum(setup.widths))
            for arm in config.all_arms
            if history.finished(arm, seeds)
        }
        timing = {
            "wall seconds of this start": round(seconds, 1),
            **setup.spent(
                compile_seconds() + (self._speed.compile_seconds if self._speed else 0.0)
            ),
            "images": setup.splits,
            "parameters": setup.parameters,
            "multiply-accumulates an image": setup.macs,
            "training GFLOP an epoch": round(setup.epoch_flops * 1e-9, 2),
        }
        if "standard" not in measured:
            return 1
        results = results_record(measured, config, history)
        speeds = [record for arm in measured if (record := history.speed(arm))]
        folder.write_summary(
            {
                "reference": "standard",
                "tables": [results],
                "arms": comparison_records(measured, "standard"),
                "speed": speed_summary(speeds),
                "failures": failures,
                "seeds": seeds,
                "timing": timing,
            }
        )
        write_page(folder, setup, history, measured, failures, timing)
        shown = [comparison_of(results), *([speed_table(speeds, config)] if speeds else [])]
        return print_result(folder, failures, shown)


def _is_timed(folder: RunFolder, arm: str) -> bool:
    """Whether one of the arm's tickets was timed, by this start or one before."""
    return History(folder.records()).speed(arm) is not None
