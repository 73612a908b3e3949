"""Arms against a reference: one table for people, the same numbers as records for programs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report._stats import Censored, Paired, Summary, Value, paired, scaled, summary
from experiments.report._tables import Column, Table

Measurements = Mapping[str, Sequence[Value]]  # metric -> one value per seed


@dataclasses.dataclass(frozen=True)
class Metric:
    """One measured quantity and how to show it.

    Attributes:
      key: its name in the records.
      title: its name for readers.
      unit: the unit shown, after scaling.
      spec: format of its numbers.
      scale: what a recorded value is multiplied by to be shown (100 for a fraction in percent).
      note: one sentence for the foot of the table.
    """

    key: str
    title: str
    unit: str = ""
    spec: str = ".2f"
    scale: float = 1.0
    note: str = ""


def comparison(
    title: str,
    arms: Mapping[str, Measurements],
    metrics: Sequence[Metric],
    reference: str,
    *,
    level: float = 0.95,
    notes: Sequence[str] = (),
) -> Table:
    """A table with a row per metric and a column per arm.

    Each cell holds mean ± sample standard deviation over seeds and, under it, the paired difference
    to the reference arm with its t interval. An arm without a metric has a dash there.

    Args:
      title: the caption.
      arms: for each arm, for each metric's key, one value per seed in the same order of seeds.
      metrics: the rows.
      reference: the arm that the others are compared with.
      level: coverage of the intervals.
      notes: sentences for the foot; one that explains the cells is added.

    Returns:
      A ``Table``.

    Raises:
      ValueError: ``reference`` is not among the arms, or an arm has another number of seeds.

    Example:
      >>> arms = {"standard": {"epochs": [6, 7]}, "worm": {"epochs": [5, 7]}}
      >>> metrics = [Metric("epochs", "epochs to ticket", spec=".1f")]
      >>> table = comparison("Tickets", arms, metrics, "standard")
      >>> table.rows[0][2]
      ('6.0 ± 1.4', '-0.5 [-6.9, +5.9]')
    """
    _check_reference(arms, reference)
    rows = tuple(
        (
            f"{metric.title} [{metric.unit}]" if metric.unit else metric.title,
            *(
                _cell(name, arm, arms[reference], metric, reference, level)
                for name, arm in arms.items()
            ),
        )
        for metric in metrics
    )
    explained = (
        "Mean ± sample standard deviation over seeds; under it the paired difference to "
        f"{reference} with its {level:.0%} t interval, not corrected for several comparisons."
    )
    columns = (Column("", align="left"), *(Column(name, align="right") for name in arms))
    own = tuple(f"{metric.title}: {metric.note}" for metric in metrics if metric.note)
    return Table(title, columns, rows, (explained, *notes, *own))


def arms_table(
    title: str,
    arms: Mapping[str, Measurements],
    metrics: Sequence[Metric],
    *,
    notes: Sequence[str] = (),
) -> Table:
    """A table with a row per arm and a column per metric: mean ± sample standard deviation over seeds.

    Args:
      title: the caption.
      arms: for each arm, for each metric's key, one value per seed.
      metrics: the columns.
      notes: sentences for the foot.

    Example:
      >>> table = arms_table("Costs", {"dense": {"epochs": [6, 7]}}, [Metric("epochs", "Epochs")])
      >>> table.rows
      (('dense', '6.50 ± 0.71'),)
    """
    rows = tuple(
        (
            name,
            *(summary([scaled(v, m.scale) for v in arm[m.key]]).text(m.spec) for m in metrics),
        )
        for name, arm in arms.items()
    )
    columns = (
        Column("Arm", align="left"),
        *(Column(metric.title, metric.unit, align="right") for metric in metrics),
    )
    return Table(title, columns, rows, tuple(notes))


def comparison_records(
    arms: Mapping[str, Measurements], reference: str, *, level: float = 0.95
) -> list[dict[str, Any]]:
    """The numbers of ``comparison`` as one record per arm, in recorded units.

    Args:
      arms: for each arm, for each metric, one value per seed.
      reference: the arm that the others are compared with.
      level: coverage of the intervals.

    Returns:
      ``{"arm", "metrics": {key: {"mean", "sd", "n", "seeds", "difference"?}}}`` for each arm;
      ``difference`` (to the reference) is left out for the reference itself and where the
      reference has no such metric.

    Raises:
      ValueError: ``reference`` is not among the arms, or an arm has another number of seeds.

    Example:
      >>> [record] = comparison_records({"dense": {"accuracy": [0.5, 0.75]}}, "dense")
      >>> record["arm"], record["metrics"]["accuracy"]["mean"]
      ('dense', 0.625)
    """
    _check_reference(arms, reference)
    records = []
    for name, arm in arms.items():
        metrics = {}
        for key, values in arm.items():
            metrics[key] = summary(values).record()
            if name != reference and key in arms[reference]:
                metrics[key]["difference"] = paired(values, arms[reference][key], level).record()
        records.append({"arm": name, "metrics": metrics})
    return records


def comparison_record(
    title: str,
    arms: Mapping[str, Measurements],
    metrics: Sequence[Metric],
    reference: str,
    *,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """What ``comparison_of`` needs to make the same table again: the numbers, and how they are shown.

    Args:
      title: as for ``comparison``.
      arms: likewise.
      metrics: likewise.
      reference: likewise.
      notes: likewise.

    Returns:
      Plain values for ``summary.json``.

    Example:
      >>> arms = {"standard": {"epochs": [6, 7]}, "worm": {"epochs": [5, 7]}}
      >>> told = ("Tickets", arms, [Metric("epochs", "Epochs")], "standard")
      >>> comparison_of(comparison_record(*told)) == comparison(*told)
      True
    """
    return {
        "title": title,
        "reference": reference,
        "metrics": [dataclasses.asdict(metric) for metric in metrics],
        "notes": list(notes),
        "arms": comparison_records(arms, reference),
    }


def comparison_of(record: Mapping[str, Any]) -> Table:
    """Return the table of a record that ``comparison_record`` made, also after a round trip through JSON."""
    return comparison(
        record["title"],
        measurements(record["arms"]),
        [Metric(**metric) for metric in record["metrics"]],
        record["reference"],
        notes=tuple(record["notes"]),
    )


def measurements(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[Value]]]:
    """Read the measurements back from records that ``comparison_records`` made.

    Args:
      records: one per arm, also after a round trip through JSON.

    Returns:
      For each arm, for each metric, one value per seed.

    Example:
      >>> arms = {"dense": {"epochs": [3.0, Censored(12), None]}}
      >>> measurements(comparison_records(arms, "dense")) == arms
      True
    """
    return {
        record["arm"]: {
            key: [_read(value) for value in metric["seeds"]]
            for key, metric in record["metrics"].items()
        }
        for record in records
    }


def _read(value: Any) -> Value:
    if isinstance(value, Mapping):
        return Censored(value["above"])
    return None if isinstance(value, str) else value  # NaN and infinities are text in JSON


def _cell(
    name: str, arm: Measurements, base: Measurements, metric: Metric, reference: str, level: float
) -> tuple[str, ...] | None:
    """A metric's formats differ by row, so cells are text here."""
    if metric.key not in arm:
        return None
    values = [scaled(value, metric.scale) for value in arm[metric.key]]
    whole: Summary = summary(values)
    if name == reference:
        return (*whole.lines(metric.spec), "reference")
    if metric.key not in base:
        return whole.lines(metric.spec)
    difference: Paired = paired(values, [scaled(v, metric.scale) for v in base[metric.key]], level)
    return (*whole.lines(metric.spec), difference.text(metric.spec))


def _check_reference(arms: Mapping[str, Measurements], reference: str) -> None:
    if reference not in arms:
        raise ValueError(
            f"the reference arm {reference!r} is not among the arms {', '.join(arms)}; name one of "
            "them."
        )
