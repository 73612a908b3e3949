"""What widths cost in time, by a measured table."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from wormjax.structure._alignment import Alignment
from wormjax.structure._costs import Contraction, Size, kept_sizes
from wormjax.structure._dims import Dim, Dims
from wormjax.structure._groups import Group, Groups


class Latency:
    """The modelled time of a program's contractions.

    Args:
      groups: the groups.
      work: the program's contractions.
      table: the backend's.
    """

    def __init__(self, groups: Groups, work: Sequence[Contraction], table: Alignment):
        self._dims: Dims = groups.traced.dims
        self._table, self._work = table, work
        self._touching: dict[Dim, list[Contraction]] = {}
        self._beside: dict[Dim, set[Dim]] = {}
        for contraction in work:
            atoms = {atom for dim in contraction.dims for atom in self._dims.atoms(dim)}
            for atom in atoms:
                self._touching.setdefault(atom, []).append(contraction)
                self._beside.setdefault(atom, set()).update(atoms)

    def total(self, counts: Mapping[Dim, int]) -> float:
        """Return the seconds of one run at kept widths."""
        return float(self._seconds(self._work, kept_sizes(self._dims, counts)))

    def of_group(
        self, group: Group, widths: np.ndarray, counts: Mapping[Dim, int]
    ) -> Float[np.ndarray, " n"]:
        """Return the seconds of the contractions that a group takes part in, for several widths of it.

        Args:
          group: the group.
          widths: alternatives.
          counts: what the other groups keep; those that are missing are whole.
        """
        size = kept_sizes(self._dims, {**counts, group.atom: widths})
        touching = self._touching.get(group.atom, ())
        return np.zeros(len(widths)) + self._seconds(touching, size)

    def neighbours(self, group: Group, among: Iterable[Group]) -> list[Group]:
        """Return the groups that share a contraction with a group, itself included."""
        beside = self._beside.get(group.atom, set())
        return [g for g in among if g is group or g.atom in beside]

    def _seconds(self, work: Iterable[Contraction], size: Size) -> float | np.ndarray:
        return sum(
            (
                self._table.seconds(
                    one.work,
                    one.macs(size),
                    math.prod(map(size, one.inner)),
                    math.prod(map(size, one.outer)),
                )
                for one in work
            ),
            start=0.0,
        )
