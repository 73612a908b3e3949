"""What a budget counts."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from wormjax.structure._alignment import Alignment, load_alignment
from wormjax.structure._costs import contractions, kept_sizes, mac_count, parameter_count
from wormjax.structure._groups import Groups
from wormjax.structure._latency import Latency
from wormjax.structure._widths import at_least, by_step, by_time


class Costs:
    """What widths cost in the currency of a budget, and which widths there are.

    Args:
      groups: the groups.
      given: the budget's name: ``"keep"`` counts units, ``"params"``, ``"macs"`` and ``"latency"`` what they say.
      round_to: a step, or ``"auto"`` for widths by the measured table.
      alignment: the table; by default the present backend's, read only where it is used.
    """

    def __init__(
        self, groups: Groups, given: str, round_to: int | str, alignment: Alignment | None
    ):
        self._traced, self._given, self._round_to = groups.traced, given, round_to
        self._groups = {group.name: group for group in groups}
        self._work = contractions(groups.traced)
        if round_to == "auto" or given == "latency":
            table = alignment or load_alignment(jax.default_backend())
            self.latency = Latency(groups, self._work, table)

    def __call__(self, widths: Mapping[str, int]) -> Any:
        """Return the cost; groups without a width are whole, and none of the units that are counted."""
        if self._given == "keep":
            return sum(widths.values())
        counts = {self._groups[name].atom: width for name, width in widths.items()}
        if self._given == "latency":
            return self.latency.total(counts)
        size = kept_sizes(self._traced.dims, counts)
        if self._given == "params":
            return parameter_count(self._traced.params, size)
        return mac_count(self._work, size)

    def stairs(self, among: Iterable[str], minimum: int) -> dict[str, np.ndarray]:
        """Return the widths that groups may have (see ``_widths``)."""
        found = {}
        for group in (self._groups[name] for name in among):
            if isinstance(self._round_to, int):
                steps = by_step(group.size, self._round_to)
            else:
                steps = by_time(self.latency.of_group(group, np.arange(group.size + 1), {}))
            found[group.name] = at_least(steps, minimum)
        return found
