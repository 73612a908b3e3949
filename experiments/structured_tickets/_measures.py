"""From records to tables: accuracy of every method at every density, and the sparsest ticket that still wins."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.structured_tickets._config import TicketConfig

Record = Mapping[str, Any]


class Point(NamedTuple):
    """One method at one round, over seeds.

    Attributes:
      round: of iterative pruning.
      nominal: fraction of prunable weights that its masks keep, one a seed.
      executed: fraction that is multiplied with.
      validation: accuracies.
      test: accuracies.
      latency: of the first seed, by batch size; empty where nothing was timed.
      macs_share: of the first seed, multiplications over those of the dense network.
    """

    round: int
    nominal: tuple[float, ...]
    executed: tuple[float, ...]
    validation: tuple[float, ...]
    test: tuple[float, ...]
    latency: Mapping[str, Mapping[str, float]]
    macs_share: float | None


class Winning(NamedTuple):
    """The sparsest ticket of a method that wins, by validation accuracy.

    Attributes:
      point: it; None where none wins.
      margin: its mean difference to dense training on validation images, in points.
    """

    point: Point | None
    margin: float | None


def points(records: Sequence[Record], config: TicketConfig) -> dict[str, list[Point]]:
    """Return for ``"dense"``, ``"imp"`` and every method its points; a round counts when all of its seeds are there."""
    by: dict[tuple[str, int], dict[int, Record]] = {}
    for r in records:
        if r["kind"] == "level":
            by.setdefault(("imp" if r["round"] else "dense", r["round"]), {})[r["seed"]] = r
        elif r["kind"] == "result" and "method" in r:
            by.setdefault((r["method"], r["round"]), {})[r["seed"]] = r
    found: dict[str, list[Point]] = {}
    for (method, round), of_seeds in by.items():
        if set(of_seeds) < set(config.seed_numbers):
            continue
        rows = [of_seeds[seed] for seed in config.seed_numbers]

        def every(key: str, rows: list[Record] = rows) -> tuple[float, ...]:
            return tuple(float(r[key]) for r in rows)

        first = rows[0]
        found.setdefault(method, []).append(
            Point(
                round,
                every("nominal"),
                every("executed"),
                every("validation"),
                every("test"),
                first.get("latency", {}),
                first.get("macs_share"),
            )
        )
    return {method: sorted(of, key=lambda p: p.round) for method, of in found.items()}


def winning(found: Mapping[str, list[Point]], config: TicketConfig) -> dict[str, Winning]:
    """Return for every method the sparsest point that wins.

    It wins where its mean validation accuracy, paired by seed, is at most the tolerance below that of dense training.
    """
    if "dense" not in found:
        return {}
    dense = np.array(found["dense"][0].validation)
    best: dict[str, Winning] = {}
    for method, of in found.items():
        if method == "dense":
            continue
        best[method] = Winning(None, None)
        for point in of:
            margin = 100 * float(np.mean(np.array(point.validation) - dense))
            sparser = best[method].point is None or np.mean(point.nominal) < np.mean(
                best[method].point.nominal  # type: ignore[union-attr]
            )
            if margin >= -config.tolerance - 1e-9 and sparser:
                best[method] = Winning(point, margin)
    return best
