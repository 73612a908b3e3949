"""How fast a backend is at which widths: a small measured table."""

import dataclasses
import functools
import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from wormjax.structure._costs import Work

FORMAT = 1
COMMAND = "python -m benchmarks.alignment --write"
Side = Literal["inner", "outer"]
_TABLES = importlib.resources.files("wormjax.structure") / "alignment"
_COARSEST = 32  # multiples of more than this are alike


@dataclasses.dataclass(frozen=True, eq=False)
class Speeds:
    """Relative speed of one side of a contraction at the widths that were measured.

    Attributes:
      widths: rising.
      speeds: multiply-accumulates a second at each, over those at the reference width.
    """

    widths: Int[np.ndarray, " n"]
    speeds: Float[np.ndarray, " n"]

    def at(self, width: Any) -> Any:
        """Return the relative speed at a width or at an array of widths.

        A width that was not measured is as fast as measured ones of its *alignment*, the largest power of two up to
        32 that divides it: interpolated over the logarithm of the width, and at the ends as the last one.
        """
        width, beyond = np.asarray(width), len(self._table) - _COARSEST
        return self._table[np.where(width < beyond, width, beyond + width % _COARSEST)]

    @functools.cached_property
    def _table(self) -> Float[np.ndarray, " m"]:
        """The speed at every width, up to a multiple of 32 from where on only the alignment counts."""
        last = -(-int(self.widths[-1] + 1) // _COARSEST) * _COARSEST
        width = np.maximum(np.arange(last + _COARSEST), 1)
        found = np.zeros(len(width))
        measured, aligned = alignment(self.widths), alignment(width)
        for step in np.unique(aligned):
            # where nothing of an alignment was measured, the next coarser one that was must do
            like = measured == min(measured[measured >= step], default=max(measured))
            logs = np.log(self.widths[like])
            between = np.interp(np.log(width), logs, self.speeds[like])
            found = np.where(aligned == step, between, found)
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class Alignment:
    """The table of one backend.

    Attributes:
      backend: such as ``"cpu"``.
      rates: for each kind of work, multiply-accumulates a second where both sides have the reference width.
      speeds: for each kind of work and side, the relative speeds.
      record: where it comes from: command, hardware, versions.
    """

    backend: str
    rates: Mapping[str, float]
    speeds: Mapping[str, Mapping[str, Speeds]]
    record: Mapping[str, Any]

    def seconds(self, work: Work, macs: Any, inner: Any, outer: Any) -> Any:
        """Return what a contraction takes, all arguments numbers or arrays of alternatives.

        A model: macs / (rate * speed(inner) * speed(outer)). It knows no caches, no parallelism over small work and
        nothing but contractions.

        Args:
          work: the kind of contraction.
          macs: its multiply-accumulates.
          inner: width that is summed over.
          outer: width that comes out.
        """
        sides = self.speeds[work]
        relative = 1.0
        for side, width in (("inner", inner), ("outer", outer)):
            if side in sides:
                relative = relative * sides[side].at(width)
        return macs / (self.rates[work] * relative)

    def write(self, path: Path) -> None:
        """Write the table as JSON."""
        tables = {
            work: {
                "macs_per_second": float(f"{self.rates[work]:.3g}"),
                **{
                    side: {
                        str(w): round(float(s), 3) for w, s in zip(t.widths, t.speeds, strict=True)
                    }
                    for side, t in sides.items()
                },
            }
            for work, sides in self.speeds.items()
        }
        told = {"format": FORMAT, "backend": self.backend, **self.record, "work": tables}
        path.write_text(json.dumps(told, indent=1) + "\n")


def alignment(width: Any) -> Any:
    """Return the largest power of two up to 32 that divides a width.

    Example:
      >>> alignment(np.array([1, 24, 64, 127]))
      array([ 1,  8, 32,  1])
    """
    width = np.asarray(width)
    return np.minimum(width & -width, _COARSEST)


def load_alignment(backend: str | Path) -> Alignment:
    """Read the table of a backend, or from a file.

    Args:
      backend: a name such as ``"cpu"``, whose table comes with the package, or the path of a JSON file.

    Raises:
      ValueError: there is no table for this backend, or the file holds none; the message says how to make one.
    """
    place: Any = backend if isinstance(backend, Path) else _TABLES / f"{backend}.json"
    if not place.is_file():
        there = sorted(p.name.removesuffix(".json") for p in _TABLES.iterdir())
        raise ValueError(
            f"There is no measured table of widths for {str(backend)!r} (there is one for {', '.join(there)}). Measure "
            f"it on that backend, in a clone of the repository: {COMMAND}."
        )
    try:
        told = json.loads(place.read_text())
        if told.pop("format") != FORMAT:
            raise ValueError("another format")
        name, works = told.pop("backend"), told.pop("work")
        rates = {work: float(table.pop("macs_per_second")) for work, table in works.items()}
        speeds = {
            work: {side: _speeds(by_width) for side, by_width in table.items()}
            for work, table in works.items()
        }
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{place} is no table of widths of this version ({error}). Measure it again: {COMMAND}."
        ) from None
    return Alignment(name, rates, speeds, told)


def _speeds(by_width: Mapping[str, float]) -> Speeds:
    widths = sorted(map(int, by_width))
    return Speeds(np.array(widths), np.array([float(by_width[str(w)]) for w in widths]))
