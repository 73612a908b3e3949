"""The comparison of structured tickets: its arms, and what it tells of them."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments._folder import RunFolder
from experiments._progress import Progress
from experiments._report_page import print_result
from experiments._units import Begun, run_units
from experiments.structured_tickets._config import TicketConfig
from experiments.structured_tickets._measures import points, winning
from experiments.structured_tickets._page import accuracy_table, winning_table, write_page
from experiments.structured_tickets._setup import Setup
from experiments.structured_tickets._unit import Tickets, run_method
from experiments.training import CheckpointError, MetricsLog
from wormjax.lottery import LevelError


class Job:
    """One run of the comparison, ready to begin.

    Args:
      config: its settings.

    Raises:
      ValueError: a setting is out of its range.
    """

    def __init__(self, config: TicketConfig):
        self._setup = Setup(config)

    @property
    def _arms(self) -> dict[str, tuple[str, int]]:
        config = self._setup.config
        return {f"{m}-{r}": (m, r) for m in config.methods for r in config.structured_rounds}

    @property
    def phases(self) -> int:
        """How many phases the progress display will show."""
        return (1 + len(self._arms)) * self._setup.config.seeds

    def run(self, folder: RunFolder, progress: Progress) -> dict[str, str]:
        """Prune every seed, and train every structured ticket that is not over yet; return why arms failed."""
        setup, arms = self._setup, self._arms
        tickets = Tickets(setup, folder, progress)

        def begin(name: str, seeds: Sequence[int]) -> Begun:
            [seed] = seeds

            def unit(log: MetricsLog) -> None:
                try:
                    if name == "imp":
                        tickets.record(seed, log)
                    else:
                        run_method(setup, folder, progress, tickets, *arms[name], seed, log)
                except LevelError as error:  # not the arm's fault, and it may be repaired
                    raise CheckpointError(str(error)) from error

            return None, unit

        units = [(name, [seed]) for seed in setup.config.seed_numbers for name in ("imp", *arms)]
        return run_units(folder, progress, units, begin)

    def report(self, folder: RunFolder, failures: Mapping[str, str], seconds: float) -> int:
        """Write summary and report, and print the tables; 0 where every arm finished, else 1."""
        setup = self._setup
        config = setup.config
        found = points(folder.records(), config)
        if "dense" not in found:
            return 1
        best = winning(found, config)
        timing = {
            "wall seconds of this start": round(seconds, 1),
            "images": setup.splits,
            **setup.sizes(),
            "optimizer steps of a training": setup.total_steps,
        }
        folder.write_summary(
            {
                "reference": "dense training",
                "arms": [
                    {"arm": method, **p._asdict()} for method, of in found.items() for p in of
                ],
                "winning": {
                    method: None
                    if w.point is None
                    else {"sparsity": 1 - float(np.mean(w.point.nominal)), "margin": w.margin}
                    | {"executed": float(np.mean(w.point.executed)), "round": w.point.round}
                    for method, w in best.items()
                },
                "tolerance": config.tolerance,
                "failures": failures,
                "seeds": config.seed_numbers,
                "timing": timing,
            }
        )
        write_page(folder, setup, found, best, failures, timing)
        return print_result(folder, failures, [accuracy_table(found), winning_table(best, config)])
