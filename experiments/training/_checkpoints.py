"""Checkpoints of any pytree: Orbax writes the arrays, a manifest says what they must be.

The folder of one checkpoint is written under another name and renamed when complete, so that a
process killed at any moment leaves the checkpoints before it untouched and nothing that looks like
a newer one. Orbax casts to another dtype without a word; here the manifest is compared with the
tree that is asked for, and with every file, before an array is read, and with every array
afterwards. Nothing is pickled.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from experiments.training._manifest import (
    CheckpointError,
    Entry,
    check_files,
    check_leaves,
    check_origin,
    digest,
    leaf_keys,
    read_manifest,
    to_json,
    write_manifest,
)

_WRITING = ".writing-"
_DELETING = ".deleting-"


class Checkpoints:
    """The checkpoints of one run in one folder; a single process writes, the newest few are kept.

    Args:
      folder: made at the first save.
      fingerprint: what a checkpoint must have been made with, in JSON values: a configuration or
        its hash.
      keep: how many of the newest checkpoints stay.

    Raises:
      ValueError: keep is below 1.
      TypeError: the fingerprint does not survive JSON.

    Example:
      >>> import tempfile, jax, jax.numpy as jnp
      >>> folder = tempfile.mkdtemp()
      >>> store = Checkpoints(folder, {"lr": 0.1})
      >>> store.restore({"w": jnp.zeros(2)}) is None
      True
      >>> _ = store.save({"w": jnp.ones(2)}, {"epoch": 3})
      >>> tree, position = store.restore({"w": jnp.zeros(2)})
      >>> print(tree["w"], position)
      [1. 1.] {'epoch': 3}
    """

    def __init__(self, folder: str | os.PathLike, fingerprint: Mapping[str, Any], *, keep: int = 2):
        if keep < 1:
            raise ValueError(f"keep is {keep}. At least one checkpoint has to stay.")
        self.folder = Path(folder).absolute()
        self._fingerprint = to_json(fingerprint, "the fingerprint")
        self._keep = keep
        self._orbax: ocp.Checkpointer | None = None

    def save(self, tree: PyTree, position: Mapping[str, Any]) -> Path:
        """Write a checkpoint and return its folder; it counts from the moment that this returns.

        Args:
          tree: any pytree of arrays: any dtype, any shape, typed PRNG keys too. Waits for them and
            copies to the host.
          position: where the run stands, in JSON values; comes back as it went in.

        Raises:
          TypeError: the position does not survive JSON, or a leaf is no array.
        """
        position = to_json(position, "the position")
        arrays, entries = _to_host(tree)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        number = max(self._numbers(), default=-1) + 1
        draft = self.folder / f"{_WRITING}{number:08d}"
        draft.mkdir()
        if arrays:
            self._checkpointer().save(draft / "arrays", args=ocp.args.PyTreeSave(arrays))
        write_manifest(draft, self._fingerprint, position, entries)
        final = self.folder / f"{number:08d}"
        _force(draft)
        draft.rename(final)
        _force(self.folder, inside=False)
        for old in self._numbers()[: -self._keep]:
            self._delete(self.folder / f"{old:08d}")
        return final

    def restore(self, template: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
        """Read the newest checkpoint into the structure of ``template``.

        Args:
          template: a tree as it was saved, of arrays or `jax.ShapeDtypeStruct`: its containers and
            static parts are used, its values are not. A leaf comes back as a `jax.Array` with the
            template leaf's sharding, or as a `numpy.ndarray` where the template has one.

        Returns:
          ``(tree, position)``, or None when the folder holds no checkpoint.

        Raises:
          CheckpointError: the checkpoint is of another run or tree, has another dtype, or is
            damaged.
        """
        numbers = self._numbers()
        if not numbers:
            return None
        newest = self.folder / f"{numbers[-1]:08d}"
        remedy = (
            f"Remove that folder to go on from {numbers[-2]:08d}, the one before."
            if len(numbers) > 1
            else "There is none before it: start afresh in another folder."
        )
        manifest = read_manifest(newest, remedy)
        check_origin(newest, manifest, self._fingerprint)
        leaves, treedef = jax.tree.flatten(template)
        keys = leaf_keys(template)
        wanted = {key: Entry.of(leaf, key) for key, leaf in zip(keys, leaves, strict=True)}
        stored = check_leaves(newest, manifest, wanted)
        check_files(newest, manifest, remedy)
        arrays = self._read(newest, stored, remedy)
        placed = [_place(arrays[k], x, stored[k]) for k, x in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(treedef, placed), manifest["position"]

    def _read(self, folder, entries, remedy):
        """Return the arrays by name, each one compared with its checksum."""
        found = {name: np.zeros(e.raw_shape, e.raw_dtype) for name, e in entries.items() if e.empty}
        written = {
            name: ocp.RestoreArgs(restore_type=np.ndarray) for name in entries.keys() - found
        }
        if written:
            try:
                args = ocp.args.PyTreeRestore(restore_args=written)
                found |= self._checkpointer().restore(folder / "arrays", args=args)
            except Exception as error:
                # Orbax and TensorStore raise whatever the broken file made them stumble over
                reason = " ".join(str(error).split())[:300]
                raise CheckpointError(
                    f"The checkpoint {folder} is damaged: its arrays cannot be read "
                    f"({type(error).__name__}: {reason}). {remedy}"
                ) from error
        for name, entry in entries.items():
            array = found.get(name)
            if array is None or digest(array) != entry.checksum:
                raise CheckpointError(
                    f"The checkpoint {folder} is damaged: the array {name!r} is not the one that was saved "
                    f"(its checksum differs). {remedy}"
                )
        return found

    def _numbers(self) -> list[int]:
        """Return the numbers of the complete checkpoints, rising."""
        if not self.folder.is_dir():
            return []
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdecimal())

    def _sweep(self) -> None:
        """Remove what a killed process left behind."""
        for path in self.folder.iterdir():
            if path.name.startswith((_WRITING, _DELETING)):
                shutil.rmtree(path)

    def _delete(self, path: Path) -> None:
        """Remove a checkpoint so that a kill in between leaves none that is half there."""
        doomed = path.with_name(_DELETING + path.name)
        path.rename(doomed)
        shutil.rmtree(doomed)

    def _checkpointer(self) -> ocp.Checkpointer:
        if self._orbax is None:
            # one key-value store for all arrays: a file an array takes twice as long
            handler = ocp.PyTreeCheckpointHandler(use_ocdbt=True, use_zarr3=False)
            self._orbax = ocp.Checkpointer(handler)
        return self._orbax


def _force(folder, inside=True):
    """Force a folder to the disk, so that a rename never outlives what it renames."""
    for path in (*(folder.rglob("*") if inside else ()), folder):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _to_host(tree):
    """Return the non-empty arrays by name, as NumPy, and the manifest entry of every leaf."""
    leaves, keys = jax.tree.leaves(tree), leaf_keys(tree)
    entries = {key: Entry.of(leaf, key) for key, leaf in zip(keys, leaves, strict=True)}
    raw = jax.device_get([jax.random.key_data(x) if _is_key(x) else x for x in leaves])
    raw = [np.asarray(x) for x in raw]
    arrays = {key: x for key, x in zip(keys, raw, strict=True) if x.size}
    checked = {key: entries[key].sealed(x) for key, x in zip(keys, raw, strict=True)}
    return arrays, checked


def _place(array, like, entry):
    """Return a restored array in the kind, and on the devices, of the template's leaf."""
    if isinstance(like, np.ndarray | np.generic):
        return array
    value = jnp.array(array)  # a copy: the buffer may be donated
    if _is_key(like):
        value = jax.random.wrap_key_data(value, impl=entry.key_impl)
    # an array that was never committed to a device stays free to follow others
    pinned = getattr(like, "committed", True) and getattr(like, "sharding", None) is not None
    return jax.device_put(value, like.sharding) if pinned else value


def _is_key(x) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
