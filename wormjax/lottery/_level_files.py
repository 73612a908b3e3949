"""Snapshots of an iterative pruning on disk: what a level ended with, and where the present one stands.

Each snapshot is a folder of its own: one Orbax checkpoint and ``record.json``, which tells the shapes, the dtypes and
a SHA-256 of every array. It is written under another name and renamed when it is whole, so that a process killed at
any moment leaves the snapshots before it and nothing that looks like a newer one. Nothing is pickled. One process
writes.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from wormjax.structure._array_files import restore_arrays, save_arrays
from wormjax.structure._ticket_record import Leaf, raw

_RECORD, _ORIGIN, _WRITING = "record.json", "origin.json", ".writing-"


class LevelError(RuntimeError):
    """The folder is of another run, or a snapshot in it is damaged."""


class LevelFiles:
    """The snapshots of one run.

    Args:
      folder: made where it is not there.
      origin: what the run is, in JSON values; a folder of another one is refused.

    Raises:
      LevelError: the folder holds something else.
    """

    def __init__(self, folder: str | os.PathLike, origin: Mapping[str, Any]):
        self.folder = Path(folder).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(f"{_WRITING}*"):  # by a process that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        wanted, path = json.loads(json.dumps(origin)), self.folder / _ORIGIN
        if not path.exists():
            if any(self.folder.iterdir()):
                raise LevelError(
                    f"{self.folder} is not empty and holds no run of imp. Choose an empty folder."
                )
            self._write_json(path, wanted)
            return
        found = self._read_json(path)
        for key in sorted(wanted.keys() | found.keys()):
            if wanted.get(key) != found.get(key):
                raise LevelError(
                    f"The run in {self.folder} has {key} = {_short(found.get(key))}, and this one "
                    f"{_short(wanted.get(key))}. Continue it with the arguments that it was begun with, or choose "
                    "another folder."
                )

    def has(self, name: str) -> bool:
        """Whether there is a snapshot of this name."""
        return (self.folder / name).is_dir()

    def partial(self, level: int) -> list[str]:
        """Return the names of the snapshots in the middle of a level, the newest last."""
        return sorted(path.name for path in self.folder.glob(f"partial_{level:03d}_*"))

    def remove(self, name: str) -> None:
        """Remove a snapshot so that a kill in between leaves none that is half there."""
        doomed = self.folder / f"{_WRITING}removed-{name}"
        (self.folder / name).rename(doomed)
        shutil.rmtree(doomed)

    def save(self, name: str, tree: PyTree, told: Mapping[str, Any]) -> None:
        """Write a snapshot; it counts from the moment that this returns.

        Args:
          name: of its folder.
          tree: any pytree of arrays.
          told: what goes with it, in JSON values.
        """
        leaves = Leaf.of_tree(tree, name)
        arrays = {str(k): np.asarray(raw(x)) for k, x in enumerate(jax.tree.leaves(tree))}
        draft = self.folder / f"{_WRITING}{name}"
        draft.mkdir()
        if filled := {key: x for key, x in arrays.items() if x.size}:
            save_arrays(draft / "arrays", filled)
        rows = [
            {"name": leaf.name, "shape": list(leaf.shape), "dtype": leaf.dtype, "digest": digest(x)}
            for leaf, x in zip(leaves, arrays.values(), strict=True)
        ]
        self._write_json(draft / _RECORD, {"told": dict(told), "leaves": rows})
        draft.rename(self.folder / name)

    def load(self, name: str, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
        """Read a snapshot.

        Args:
          name: of its folder.
          like: a tree of the same structure, shapes and dtypes.

        Raises:
          LevelError: it is of another tree, or damaged.
        """
        at = self.folder / name
        record = self._read_json(at / _RECORD)
        wanted = Leaf.of_tree(like, name)
        stored = [(r["name"], tuple(r["shape"]), r["dtype"]) for r in record["leaves"]]
        for have, want in zip(stored, wanted, strict=False):
            if have != (want.name, want.shape, want.dtype):
                raise LevelError(
                    f"The snapshot {at} has {have[0]!r} of shape {have[1]} and dtype {have[2]}, where {want.name!r} of "
                    f"{want.shape} and {want.dtype} is expected. Continue with the model and optimizer of that run."
                )
        if len(stored) != len(wanted):
            raise LevelError(
                f"The snapshot {at} holds {len(stored)} arrays where {len(wanted)} are expected. Continue with the "
                "model and optimizer of that run."
            )
        filled = [str(k) for k, leaf in enumerate(wanted) if leaf.size]
        try:
            found = restore_arrays(at / "arrays", filled) if filled else {}
        except Exception as error:  # Orbax and TensorStore raise whatever made them stumble
            raise self._damaged(
                at, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            ) from error
        for k, row in enumerate(record["leaves"]):
            if str(k) in found and digest(found[str(k)]) != row["digest"]:
                raise self._damaged(at, f"the array {row['name']!r} is not the one that was saved")
        leaves = [
            leaf.revived(found[str(k)]) if leaf.size else leaf.empty()
            for k, leaf in enumerate(wanted)
        ]
        return jax.tree.unflatten(jax.tree.structure(like), leaves), record["told"]

    def _write_json(self, path: Path, content: Mapping[str, Any]) -> None:
        draft = path.with_name(f"{_WRITING}{path.name}")
        with draft.open("w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)

    def _read_json(self, path: Path) -> dict[str, Any]:
        try:
            return json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise self._damaged(path.parent, f"its {path.name} is not whole ({error})") from None

    @staticmethod
    def _damaged(at: Path, why: str) -> LevelError:
        return LevelError(
            f"{at} is damaged: {why}. Remove it to go on from the snapshot before it."
        )


def digest(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else f"{text[:77]}..."
