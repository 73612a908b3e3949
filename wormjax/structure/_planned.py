"""What goes and what stays, before anything changes."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from wormjax._masks import never_pruned
from wormjax.structure._costs import (
    Size,
    contractions,
    kept_sizes,
    mac_count,
    parameter_count,
    whole,
)
from wormjax.structure._dims import Dim
from wormjax.structure._folding import Verdict, verdicts
from wormjax.structure._groups import Group, Groups
from wormjax.structure._native import size_bound
from wormjax.structure._plan_table import PlanRow, as_html, as_text, total


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What goes and what stays; made by `plan`.

    Attributes:
      groups: the groups that were planned on.
      kept: for each group, which of its units stay; bool, one entry a unit.
      given: the mask tree of the network that the user has, or None for a dense one: what is lost with the removed
        units is told relative to it.
    """

    groups: Groups
    kept: Mapping[str, Bool[np.ndarray, " _"]]
    given: PyTree[Bool[Array, "..."]] | None = None

    def __repr__(self) -> str:
        kept = sum(int(mask.sum()) for mask in self.kept.values())
        total = sum(mask.size for mask in self.kept.values())
        return f"Plan({kept:,} of {total:,} units in {len(self.kept)} groups stay)"

    @functools.cached_property
    def atoms(self) -> dict[Dim, np.ndarray]:
        """The masks of the trace's atoms that lose something."""
        return {g.atom: self.kept[g.name] for g in self.groups if not self.kept[g.name].all()}

    @property
    def masks(self) -> PyTree[Bool[Array, "..."]]:
        """Mask tree of the masked network: every parameter slice of the removed units."""
        leaves = []
        for axes in self.groups.traced.params:
            mask: Array | None = None
            for axis, dim in enumerate(axes):
                kept = self.groups.traced.dims.kept(dim, self.atoms)
                if not kept.all():
                    shape = [-1 if a == axis else 1 for a in range(len(axes))]
                    shaped = jnp.asarray(kept.reshape(shape))
                    mask = shaped if mask is None else mask & shaped
            leaves.append(never_pruned() if mask is None else mask)
        return jax.tree.unflatten(jax.tree.structure(self.groups.shapes), leaves)

    @property
    def given_masks(self) -> PyTree[Bool[Array, "..."]]:
        """Mask tree of the network that the user has; in a dense one nothing is masked."""
        if self.given is not None:
            return self.given
        return jax.tree.map(lambda _: never_pruned(), self.groups.shapes)

    @property
    def indices(self) -> dict[str, dict[int, np.ndarray]]:
        """For each parameter path and pruned axis the kept indices, in the coordinates of this plan's model."""
        found: dict[str, dict[int, np.ndarray]] = {}
        for name, axes in zip(self.groups.traced.names, self.groups.traced.params, strict=True):
            for axis, dim in enumerate(axes):
                kept = self.groups.traced.dims.kept(dim, self.atoms)
                if not kept.all():
                    found.setdefault(name, {})[axis] = np.flatnonzero(kept)
        return found

    @property
    def widths(self) -> dict[str, int]:
        """How many units each group keeps."""
        return {name: int(kept.sum()) for name, kept in self.kept.items()}

    @property
    def parameters(self) -> tuple[int, int]:
        """Parameters before and after."""
        leaves = self.groups.traced.params
        return parameter_count(leaves, whole), parameter_count(leaves, self._size)

    @property
    def macs(self) -> tuple[int, int]:
        """Multiply-accumulates on the example inputs before and after."""
        return mac_count(self._work, whole), mac_count(self._work, self._size)

    @functools.cached_property
    def losses(self) -> dict[str, Verdict]:
        """For each group that loses units, what is lost with them: nothing, a constant, or something live."""
        found = verdicts(self.groups, self.atoms, self.given_masks)
        return {g.name: found[g.atom] for g in self.groups if g.atom in self.atoms}

    @property
    def is_lossless(self) -> bool:
        """Whether the small network computes what the given network does: constants carried, no masked entry left."""
        return self._left == 0 and all(v.kind != "approximate" for v in self.losses.values())

    @functools.cached_property
    def replay_only(self) -> dict[str, str]:
        """The groups that lose units and whose width the program uses, each with the reason.

        The ticket's ``apply`` is right for them all the same; code that reads sizes off the narrow arrays is not.
        """
        bound = size_bound(self.groups.traced)
        return {g.name: bound[g.atom] for g in self.groups if g.atom in bound.keys() & self.atoms}

    def table(self) -> list[PlanRow]:
        """Return one row for each group, and one for the whole network."""
        rows = [self._row(group) for group in self.groups]
        size = sum(g.size for g in self.groups), sum(self.widths.values())
        return [*rows, total(rows, size, self.parameters, self.macs)]

    def explain(self) -> str:
        """Say what goes and what stays, group by group: units, parameters, multiply-accumulates, and what is lost.

        *exact*: nothing flows out of the removed units of the network that the user has; *folded*: a constant does,
        and a bias behind takes it over; *approximate*: live units go. *replay only*: see `replay_only`.
        """
        return as_text(self.table(), self._notes())

    def to_html(self) -> str:
        """Return what `explain` says as an HTML table."""
        return as_html(self.table(), self._notes())

    def _row(self, group: Group) -> PlanRow:
        leaves = {place.leaf: self.groups.traced.params[place.leaf] for place in group.slices}
        dims = self.groups.traced.dims
        touching = [c for c in self._work if any(group.atom in dims.atoms(d) for d in c.dims)]
        verdict = self.losses.get(group.name)
        reason = self.replay_only.get(group.name)
        return PlanRow(
            group.name,
            (group.size, self.widths[group.name]),
            (
                parameter_count(leaves.values(), whole),
                parameter_count(leaves.values(), self._size),
            ),
            (mac_count(touching, whole), mac_count(touching, self._size)),
            verdict.kind if verdict else "",
            ("replay only" if reason else "yes") if verdict else "",
            "; ".join(filter(None, (verdict.why if verdict else "", reason))),
        )

    def _notes(self) -> Sequence[str]:
        notes = ["parameters and MACs of a group: of all leaves and contractions that it lies on"]
        if self.given is not None:
            masked = sum(int(x.size - x.sum()) for x in self._on_leaves(self.given))
            left = self._left
            notes.append(
                f"of {masked:,} masked entries {masked - left:,} go; {left:,} stay, as they are in the parameters"
                + (": shrink wj.apply_masks(params, masks) to have them zero" if left else "")
            )
        return notes

    @functools.cached_property
    def _left(self) -> int:
        """Entries that the given masks prune and this plan does not."""
        if self.given is None:
            return 0
        both = zip(self._on_leaves(self.given), self._on_leaves(self.masks), strict=True)
        return sum(int((~mine & ours).sum()) for mine, ours in both)

    def _on_leaves(self, masks: PyTree) -> list[np.ndarray]:
        leaves = zip(jax.tree.leaves(masks), jax.tree.leaves(self.groups.shapes), strict=True)
        return [np.broadcast_to(np.asarray(mask), like.shape) for mask, like in leaves]

    @functools.cached_property
    def _work(self):
        return contractions(self.groups.traced)

    @functools.cached_property
    def _size(self) -> Size:
        counts = {atom: int(kept.sum()) for atom, kept in self.atoms.items()}
        return kept_sizes(self.groups.traced.dims, counts)
