"""The records of a run, by arm and seed, and what is measured of the arms that finished."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from experiments._arms_job import Named
from experiments.report import Value

Record = dict[str, Any]

A = TypeVar("A", bound=Named)


class RunHistory:
    """Epochs and results of a run; an experiment adds what else it recorded.

    Args:
      records: from ``metrics.jsonl``.

    Attributes:
      results: the result of every arm and seed that is over.
    """

    def __init__(self, records: Iterable[Record]):
        self._epochs: dict[tuple[str, int], list[Record]] = {}
        self.results: dict[tuple[str, int], Record] = {}
        for record in records:
            key = (record["arm"], record["seed"])
            if record["kind"] == "result":
                self.results[key] = record
            elif record["kind"] == "epoch":
                self._epochs.setdefault(key, []).append(record)

    def epochs(self, arm: str, seed: int) -> list[Record]:
        """The records of an arm's epochs, in order; none where it did not begin."""
        return self._epochs.get((arm, seed), [])

    def result(self, arm: str, seed: int) -> Record | None:
        """The result, or None where the arm did not finish."""
        return self.results.get((arm, seed))

    def finished(self, arm: str, seeds: Sequence[int]) -> bool:
        """Whether every seed of the arm has its result."""
        return all((arm, seed) in self.results for seed in seeds)

    def accuracies(
        self, arm: str, seed: int, judge: str = "validation_accuracy"
    ) -> dict[str, Value]:
        """Return the test accuracy at the epoch that ``judge`` finds best, the earliest of several, and at the last."""
        epochs = self._epochs[(arm, seed)]
        best = max(epochs, key=lambda record: record[judge])
        return {
            "accuracy": best["test_accuracy"],
            "accuracy_last": epochs[-1]["test_accuracy"],
        }


def measure_finished(
    history: RunHistory,
    arms: Sequence[A],
    seeds: Sequence[int],
    measured: Callable[[A, int], Mapping[str, Value]],
) -> dict[A, dict[str, list[Value]]]:
    """Return for each finished arm and metric one value per seed.

    Args:
      history: the records.
      arms: all arms, in order.
      seeds: of each of them.
      measured: measures a finished training of an arm and seed; the first seed's metrics are those of all.
    """
    found = {}
    for arm in arms:
        if history.finished(arm.name, seeds):
            rows = [measured(arm, seed) for seed in seeds]
            found[arm] = {key: [row[key] for row in rows] for key in rows[0]}
    return found
