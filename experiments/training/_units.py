"""The units of a run, one after another: what is over is skipped, what was interrupted goes on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.training._metrics import MetricsLog, read_records


class Unit(NamedTuple):
    """One arm with one cohort of seeds, ready to run.

    Attributes:
      restore: return where it stands and the number of records that its checkpoint knows of, or its beginning and None.
      run: run from there to the end, and write a record of the kind ``"result"`` for every seed.
    """

    restore: Callable[[], tuple[Any, int | None]]
    run: Callable[[MetricsLog, Any], None]


def run_units(
    units: Sequence[tuple[str, Sequence[int]]],
    open_unit: Callable[[str, Sequence[int]], Unit],
    metrics: Path,
    note: Callable[[str], None],
) -> dict[str, str]:
    """Run every arm and cohort that is not over yet; return why arms failed.

    Records say what is over. Those behind the last unit that is over, which the checkpoint of the unit that was running
    does not know of, are cut off and written again. An arm of which a unit fails is given up, and the others go on.

    Args:
      units: arm and seeds of each, in the order in which they run.
      open_unit: called with one of them when its turn has come.
      metrics: the run's ``metrics.jsonl``.
      note: shows a sentence to the user.

    Returns:
      For each arm that failed a sentence.

    Raises:
      FolderError: the records are not those of such a run.
      CheckpointError: a checkpoint is damaged, or of another run.
    """
    records = read_records(metrics)
    failures = {r["arm"]: r["why"] for r in records if r["kind"] == "failure"}
    ended = {(r["arm"], r["seed"]) for r in records if r["kind"] in ("result", "failure")}
    over = {(arm, s) for arm, seeds in units if {(arm, s) for s in seeds} <= ended for s in seeds}
    kept = max((n for n, r in enumerate(records, 1) if (r["arm"], r["seed"]) in over), default=0)
    log: MetricsLog | None = None
    try:
        for arm, seeds in units:
            if (arm, seeds[0]) in over or arm in failures:
                continue
            unit = open_unit(arm, seeds)
            start, position = unit.restore()
            if log is None:
                # what the checkpoint of the unit that was running does not know of is computed again
                log = MetricsLog(metrics, kept if position is None else position)
            try:
                unit.run(log, start)
            except (ValueError, FloatingPointError) as error:
                failures[arm] = str(error)
                for seed in seeds:
                    log.write({"kind": "failure", "arm": arm, "seed": seed, "why": str(error)})
                note(f"{arm}, seeds {list(seeds)}: {error}")
    finally:
        if log is not None:
            log.close()
    return failures
