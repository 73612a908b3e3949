"""A cell of the tables that compare accuracies: an arm's own, and how far it is from another."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from experiments.report._stats import Value, paired, scaled, summary

A = TypeVar("A", bound=Hashable)


def accuracy_cell(
    measured: Mapping[A, Mapping[str, Sequence[Value]]], arm: A, reference: A
) -> tuple[str, ...] | None:
    """Return the lines of an arm's test accuracy in percent, and the paired difference to the reference.

    Args:
      measured: for each finished arm, its ``"accuracy"`` as a fraction, one value per seed.
      arm: the arm.
      reference: the arm that it is compared with; no difference where it is this arm, or did not finish.

    Returns:
      One text a line; None where the arm did not finish.

    Example:
      >>> measured = {"a": {"accuracy": [0.5, 0.75]}, "b": {"accuracy": [0.25, 0.5]}}
      >>> accuracy_cell(measured, "a", "b")
      ('62.50 ± 17.68', '+25.00 [+25.00, +25.00]')
    """
    if arm not in measured:
        return None
    values = [scaled(v, 100) for v in measured[arm]["accuracy"]]
    whole = summary(values).lines(".2f")
    if arm == reference or reference not in measured:
        return whole
    others = [scaled(v, 100) for v in measured[reference]["accuracy"]]
    return (*whole, paired(values, others).text(".2f"))
