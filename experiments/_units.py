"""Arms and cohorts one after another: what is over stays, what failed is a record, the rest goes on."""

from collections.abc import Callable, Sequence

from experiments._folder import RunFolder
from experiments._progress import Progress
from experiments.training import CheckpointError, MetricsLog

Begun = tuple[int | None, Callable[[MetricsLog], None]]


def run_units(
    folder: RunFolder,
    progress: Progress,
    units: Sequence[tuple[str, Sequence[int]]],
    begin: Callable[[str, Sequence[int]], Begun],
) -> dict[str, str]:
    """Run every arm and cohort that is not over yet.

    A unit is over when each of its seeds has a record of kind ``"result"`` or ``"failure"``. What the checkpoint
    of the unit that was running does not know of is cut off the records, and computed again.

    Args:
      folder: of the run.
      progress: shows failures.
      units: arms with the seeds that run together, in order.
      begin: ``begin(arm, seeds) -> (position, run)``: the number of records that its checkpoint knows of, None for
        no checkpoint, and a function that takes the log and runs to the end, results and all. A ``ValueError`` or
        ``FloatingPointError`` of either means that the arm has failed; its other cohorts are left out.

    Returns:
      Why arms failed, in this start or one before.

    Raises:
      FolderError: the records cannot be read.
      CheckpointError: a checkpoint is damaged, or there are fewer records than it knows of.
    """
    records = folder.records()
    failures = {r["arm"]: r["why"] for r in records if r["kind"] == "failure"}
    ended = {(r["arm"], r["seed"]) for r in records if r["kind"] in ("result", "failure")}
    over = {(arm, s) for arm, seeds in units if {(arm, s) for s in seeds} <= ended for s in seeds}
    kept = max((n for n, r in enumerate(records, 1) if (r["arm"], r["seed"]) in over), default=0)
    log: MetricsLog | None = None
    try:
        for arm, seeds in units:
            if (arm, seeds[0]) in over or arm in failures:
                continue
            try:
                position, run = begin(arm, seeds)
                if log is None:
                    # what the checkpoint of the unit that was running does not know of is computed again
                    log = MetricsLog(folder.metrics, kept if position is None else position)
                run(log)
            except CheckpointError:  # not the arm's fault, and it may be repaired
                raise
            except (ValueError, FloatingPointError) as error:
                failures[arm] = str(error)
                if log is None:
                    log = MetricsLog(folder.metrics, kept)
                for seed in seeds:
                    log.write({"kind": "failure", "arm": arm, "seed": seed, "why": str(error)})
                progress.note(f"{arm}, seeds {seeds}: {error}")
    finally:
        if log is not None:
            log.close()
    return failures
