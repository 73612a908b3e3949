"""What a ticket kept, in words that a file can hold, and whether it fits a network."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from wormjax._paths import leaf_names
from wormjax.structure._captured import Captured
from wormjax.structure._ticket_error import TicketError
from wormjax.structure._without import Removed


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The structure of a ticket.

    Attributes:
      kept: for each pruned parameter and axis the kept indices, in the coordinates of the original network.
      shapes: full shape of every parameter of the original network, by path.
      dtypes: dtype of every parameter.
      fingerprint: hash of the original network's parameter paths, shapes and dtypes.
      captured: arrays that the original function closes over.
      versions: of what wrote it.
      removals: whole branches that were removed, the first removal first.
    """

    kept: Mapping[str, Mapping[int, tuple[int, ...]]]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    fingerprint: str
    captured: tuple[Captured, ...]
    versions: Mapping[str, str]
    removals: tuple[Removed, ...] = ()

    @classmethod
    def of(
        cls,
        shapes: PyTree,
        indices: Mapping[str, Mapping[int, np.ndarray]],
        captured: tuple[Captured, ...] = (),
        removals: tuple[Removed, ...] = (),
    ) -> "Manifest":
        """Describe a ticket of a network with these abstract parameters.

        Raises:
          ValueError: two parameters have the same path name.
        """
        names = leaf_names(shapes)
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"Two parameters are called {twice[0]!r}, and a ticket tells them apart by name. Rename one: "
                "a key of the tree that holds a '/' reads like a path."
            )
        leaves = dict(zip(names, jax.tree.leaves(shapes), strict=True))
        return cls(
            kept={
                name: {axis: tuple(map(int, kept)) for axis, kept in by_axis.items()}
                for name, by_axis in indices.items()
            },
            shapes={name: tuple(x.shape) for name, x in leaves.items()},
            dtypes={name: str(x.dtype) for name, x in leaves.items()},
            fingerprint=fingerprint(
                [(name, tuple(x.shape), str(x.dtype)) for name, x in leaves.items()]
            ),
            captured=captured,
            versions={name: metadata.version(name) for name in ("wormjax", "jax", "flax", "optax")},
            removals=removals,
        )

    @property
    def indices(self) -> dict[str, dict[int, np.ndarray]]:
        """The kept indices as arrays."""
        return {
            name: {axis: np.asarray(kept, np.int64) for axis, kept in by_axis.items()}
            for name, by_axis in self.kept.items()
        }

    @property
    def channels(self) -> dict[str, dict[int, np.ndarray]]:
        """The kept indices of what is cut by channels, in the coordinates of the network without the branches."""
        by_layer = {name for removal in self.removals for name in removal.params}
        found = {
            name: {axis: k for axis, k in by_axis.items() if axis or name not in by_layer}
            for name, by_axis in self.indices.items()
        }
        return {name: by_axis for name, by_axis in found.items() if by_axis}

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the branches that were removed, in order of removal."""
        return tuple(name for removal in self.removals for name in removal.names)

    @property
    def widths(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter of the ticket, by path."""
        return {
            name: tuple(
                len(self.kept.get(name, {}).get(axis, range(n))) for axis, n in enumerate(shape)
            )
            for name, shape in self.shapes.items()
        }

    def record(self) -> dict[str, Any]:
        """Return the manifest in JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_record(cls, record: Any) -> "Manifest":
        """Read what `record` returned.

        Raises:
          TicketError: a field is missing or of another kind, or the manifest contradicts itself.
        """
        try:
            manifest = cls(
                kept={
                    name: {int(axis): tuple(map(int, kept)) for axis, kept in by_axis.items()}
                    for name, by_axis in record["kept"].items()
                },
                shapes={name: tuple(map(int, shape)) for name, shape in record["shapes"].items()},
                dtypes={name: str(dtype) for name, dtype in record["dtypes"].items()},
                fingerprint=str(record["fingerprint"]),
                captured=tuple(
                    Captured(tuple(map(int, shape)), str(dtype), str(digest))
                    for shape, dtype, digest in record["captured"]
                ),
                versions=dict(record["versions"]),
                removals=tuple(map(Removed.from_record, record.get("removals", ()))),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TicketError(
                f"This is not the manifest of a ticket ({type(error).__name__}: {error})."
            ) from None
        manifest._check_itself()
        return manifest

    def _check_itself(self) -> None:
        rows = [(n, s, self.dtypes.get(n, "")) for n, s in self.shapes.items()]
        if fingerprint(rows) != self.fingerprint or set(self.dtypes) != set(self.shapes):
            raise TicketError("The manifest's shapes and dtypes are not those of its fingerprint.")
        for name, by_axis in self.kept.items():
            for axis, kept in by_axis.items():
                sizes = dict(enumerate(self.shapes.get(name, ())))
                rising = all(a < b for a, b in itertools.pairwise(kept))
                inside = bool(kept) and 0 <= kept[0] <= kept[-1] < sizes.get(axis, 0)
                is_gone = not kept and axis == 0 and any(name in r.params for r in self.removals)
                if not rising or not (inside or is_gone):
                    raise TicketError(
                        f"The manifest keeps {kept[:8]} of axis {axis} of {name!r}, which are not rising indices "
                        f"of an axis of {sizes.get(axis, 0)} entries."
                    )

    def check_fits(self, params: PyTree) -> None:
        """Raise where the ticket was not cut from a network with these parameters.

        Raises:
          TicketError: another path, shape or dtype; the message names it.
        """
        leaves = dict(zip(leaf_names(params), jax.tree.leaves(params), strict=True))
        for name in sorted(set(leaves) ^ set(self.shapes)):
            where = "the ticket's network" if name in self.shapes else "this network"
            raise TicketError(
                f"Only {where} has a parameter {name!r}: the ticket is of another definition."
            )
        for name, leaf in leaves.items():
            if tuple(leaf.shape) != self.shapes[name]:
                raise TicketError(
                    f"Parameter {name!r} has shape {tuple(leaf.shape)}; the ticket was cut from one of "
                    f"{self.shapes[name]}. Build the network with the original sizes."
                )
            if str(leaf.dtype) != self.dtypes[name]:
                raise TicketError(
                    f"Parameter {name!r} has dtype {leaf.dtype}; the ticket was cut from {self.dtypes[name]}."
                )


def fingerprint(rows: list[tuple[str, tuple[int, ...], str]]) -> str:
    """Return a hash of the paths, shapes and dtypes of a tree, whatever their order."""
    return hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()
