"""What lies in a ticket's folder: which arrays, which files, and a seal over all of it."""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from wormjax._paths import leaf_names
from wormjax.structure._captured import Block, Holding, Inputs
from wormjax.structure._manifest import Manifest
from wormjax.structure._ticket_error import TicketError

FORMAT = 2  # 1 held hashes of captured arrays and not the arrays
LAYERS = 3  # of a ticket that lacks whole branches, which a reader of 2 knows nothing of
FILE = "manifest.json"
_SAVE_AGAIN = "Save the ticket again, or take another copy of it."


@dataclasses.dataclass(frozen=True)
class Leaf:
    """What the record says of one array.

    Attributes:
      name: its path in its tree.
      shape: its shape.
      dtype: its dtype as text; ``key<...>`` for typed PRNG keys, which are written as their data.
      generator: of typed keys, else empty.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    generator: str = dataclasses.field(default="", compare=False)

    @classmethod
    def of_tree(cls, tree: PyTree, what: str) -> list["Leaf"]:
        """Describe the leaves of a tree, in flatten order.

        Raises:
          TypeError: a leaf is no array.
        """
        leaves = []
        for name, x in zip(leaf_names(tree), jax.tree.leaves(tree), strict=True):
            if not (hasattr(x, "shape") and hasattr(x, "dtype")):
                raise TypeError(
                    f"The leaf {name!r} of {what} is a {type(x).__name__}, not an array. Only arrays go into a "
                    "ticket: wrap a number with jnp.asarray."
                )
            generator = (
                str(jax.random.key_impl(x)) if is_key(x) and isinstance(x, jax.Array) else ""
            )
            dtype = str(jax.dtypes.canonicalize_dtype(x.dtype, allow_extended_dtype=True))
            leaves.append(cls(name, tuple(x.shape), dtype, generator))
        return leaves

    @property
    def size(self) -> int:
        """How many entries it has."""
        return math.prod(self.shape)

    def revived(self, written: np.ndarray) -> jax.Array:
        """Return the array from what was written of it, committed to no device."""
        array = jnp.array(written)  # a copy: the buffer may be donated
        return jax.random.wrap_key_data(array, impl=self.generator) if self.generator else array

    def empty(self) -> jax.Array:
        """Return the array where it has no entries."""
        return jnp.zeros(self.shape, self.dtype)


@dataclasses.dataclass(frozen=True)
class Record:
    """All that is known of a ticket's folder.

    Attributes:
      manifest: the ticket's structure.
      trees: for each tree its arrays, in flatten order.
      full_state: the full network's state, or None.
      inputs: shape and dtype of each input that the function was traced with.
      blocks: how the captured arrays are cut, by digest.
      files: SHA-256 of every file, by path in the folder.
    """

    manifest: Manifest
    trees: Mapping[str, list[Leaf]]
    full_state: list[Leaf] | None
    inputs: Inputs
    blocks: Mapping[str, Any]
    files: Mapping[str, str]

    def write(self, folder: Path) -> None:
        """Write the record, last and at once: a folder without it is no ticket."""

        def rows(leaves: list[Leaf]) -> list[dict[str, Any]]:
            return [dataclasses.asdict(leaf) for leaf in leaves]

        content: dict[str, Any] = {
            "format": LAYERS if self.manifest.removals else FORMAT,
            "manifest": self.manifest.record(),
            "trees": {name: rows(leaves) for name, leaves in self.trees.items()},
            "full_state": None if self.full_state is None else rows(self.full_state),
            "inputs": self.inputs,
            "blocks": dict(self.blocks),
            "files": dict(self.files),
        }
        content = json.loads(json.dumps(content))
        draft = folder / f"{FILE}.writing"
        with draft.open("w") as file:
            json.dump(content | {"seal": _seal(content)}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(folder / FILE)

    @classmethod
    def read(cls, folder: Path) -> "Record":
        """Read what `write` wrote.

        Raises:
          TicketError: there is no ticket, or its record is not whole, or of another format.
        """
        try:
            content = json.loads((folder / FILE).read_bytes())
            seal = content.pop("seal")
        except FileNotFoundError:
            raise TicketError(
                f"There is no ticket at {folder}: it has no {FILE}, which is written last. Look at the path, or "
                "save the ticket again."
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(folder, f"its {FILE} is not whole ({type(error).__name__})") from None
        if seal != _seal(content):
            raise _damaged(folder, f"its {FILE} was changed after it was written")
        if content.get("format") not in (FORMAT, LAYERS):
            raise TicketError(
                f"The ticket {folder} has the format {content.get('format')!r}; this version reads {FORMAT} "
                f"and {LAYERS}. Read it with the version of wormjax that wrote it, or shrink the original network anew "
                "and save that ticket."
            )
        try:
            return cls(
                manifest=Manifest.from_record(content["manifest"]),
                trees={str(k): _leaves(v) for k, v in content["trees"].items()},
                full_state=None
                if content["full_state"] is None
                else _leaves(content["full_state"]),
                inputs=tuple((tuple(map(int, shape)), str(d)) for shape, d in content["inputs"]),
                blocks=dict(content["blocks"]),
                files={str(k): str(v) for k, v in content["files"].items()},
            )
        except TicketError as error:
            raise TicketError(f"The ticket {folder} is not usable. {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(folder, f"its {FILE} misses what belongs there ({error!r})") from None

    def holding(self, folder: Path, arrays: Mapping[str, Any]) -> Holding:
        """Return what the ticket holds of captured arrays.

        Args:
          folder: the ticket's, for the message.
          arrays: by digest.

        Raises:
          TicketError: the arrays are not those that the manifest speaks of.
        """
        found = self.manifest.captured
        try:
            blocks = {
                digest: Block.of_record(row, arrays[digest]) for digest, row in self.blocks.items()
            }
            fit = all(blocks[c.digest].fits(c) for c in found if not c.dtype.startswith("key<"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(folder, f"its {FILE} misses what belongs there ({error!r})") from None
        if not fit:
            raise self.misfit(folder)
        return Holding(found, self.inputs, blocks)

    @staticmethod
    def misfit(folder: Path) -> TicketError:
        """Return the error of a ticket whose captured arrays are not as its manifest says."""
        return _damaged(folder, "it does not hold the captured arrays that its manifest speaks of")

    def check_files(self, folder: Path, tree: str) -> None:
        """Raise unless every file of a tree is as it was written.

        A reader that stumbles over a broken file may do so in threads of its own, so none is opened before all
        are known to be whole.
        """
        for name, expected in self.files.items():
            if name.split("/", 1)[0] == tree and digest_of(folder / name) != expected:
                raise _damaged(folder, f"its file {name} is missing or was changed")

    def check_tree(self, folder: Path, tree: str, wanted: list[Leaf], free: str = "") -> None:
        """Raise unless a tree has these arrays; the field ``free`` of each is known to the record alone."""
        found = self.trees.get(tree, [])
        for want, have in zip(wanted, found, strict=False):
            if have != (dataclasses.replace(want, **{free: getattr(have, free)}) if free else want):
                raise TicketError(
                    f"The ticket {folder} has in {tree} {have.name!r} of shape {have.shape} and dtype {have.dtype}, "
                    f"where {want.name!r} of {want.shape} and {want.dtype} is expected. Load it with the definition "
                    "and the optimizer that it was saved with."
                )
        if len(wanted) != len(found):
            raise TicketError(
                f"The ticket {folder} has {len(found)} arrays in {tree} where {len(wanted)} are expected. Load it "
                "with the definition and the optimizer that it was saved with."
            )


def digest_of(path: Path) -> str | None:
    """Return a file's SHA-256, or None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def is_key(x: Any) -> bool:
    """Whether an array holds typed PRNG keys."""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def raw(x: Any) -> Any:
    """Return what is written of an array: what JAX would make of it."""
    return jax.random.key_data(x) if is_key(x) else jnp.asarray(x)


def _leaves(rows: list[dict[str, Any]]) -> list[Leaf]:
    return [
        Leaf(str(r["name"]), tuple(map(int, r["shape"])), str(r["dtype"]), str(r["generator"]))
        for r in rows
    ]


def _seal(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _damaged(folder: Path, why: str) -> TicketError:
    return TicketError(f"The ticket {folder} is damaged: {why}. {_SAVE_AGAIN}")
