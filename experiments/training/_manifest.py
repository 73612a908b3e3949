"""The manifest of a checkpoint: what was saved and by whom, and the sentences when that does not fit."""

import dataclasses
import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from wormjax._paths import leaf_names

_FORMAT = 1
_FILE = "manifest.json"


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """What the manifest says of one leaf.

    Attributes:
      shape: the leaf's shape.
      dtype: the leaf's dtype as text; ``key<...>`` for typed PRNG keys.
      key_impl: the generator of a typed key, else empty.
      raw_shape: shape of what was written (of the key's data).
      raw_dtype: dtype of what was written.
      checksum: digest of what was written.
    """

    shape: tuple[int, ...]
    dtype: str
    key_impl: str = ""
    raw_shape: tuple[int, ...] = ()
    raw_dtype: str = ""
    checksum: str = ""

    @classmethod
    def of(cls, leaf: Any, name: str) -> "Entry":
        """Describe a leaf, before it is written or as it is asked for."""
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            raise TypeError(
                f"The leaf {name!r} is a {type(leaf).__name__}, not an array. Only arrays go into "
                "a checkpoint: wrap a number with jnp.asarray, or put it into the position."
            )
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        impl = str(jax.random.key_impl(leaf)) if is_key else ""
        return cls(shape=tuple(leaf.shape), dtype=str(leaf.dtype), key_impl=impl)

    @classmethod
    def read(cls, fields: dict[str, Any]) -> "Entry":
        """Take an entry out of a manifest."""
        shapes = {name: tuple(fields[name]) for name in ("shape", "raw_shape")}
        return cls(**{**fields, **shapes})

    def sealed(self, raw: np.ndarray) -> "Entry":
        """Add what was written."""
        return dataclasses.replace(
            self, raw_shape=raw.shape, raw_dtype=str(raw.dtype), checksum=digest(raw)
        )

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write: Orbax refuses arrays of size zero."""
        return 0 in self.raw_shape


def digest(array: np.ndarray) -> str:
    """Return a checksum over dtype, shape and bytes."""
    head = f"{array.dtype}{array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()[:32]


def leaf_keys(tree: PyTree) -> list[str]:
    """Return one name for each leaf, path names where they tell the leaves apart."""
    names = leaf_names(tree)
    if len(set(names)) == len(names):
        return names
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def to_json(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return a copy that has been through JSON, or raise when that changes it."""
    try:
        copy = json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{what} cannot be written as JSON: {error}. Use numbers, text, lists."
        ) from error
    if copy != value:
        raise TypeError(
            f"{what} comes back from JSON as {copy} instead of {dict(value)}. "
            "Use text as keys, and lists for tuples."
        )
    return copy


def write_manifest(
    folder: Path, fingerprint: dict[str, Any], position: dict[str, Any], entries: dict[str, Entry]
) -> None:
    """Write ``manifest.json`` beside the files it lists, sealed by a checksum over its own content."""
    content = {
        "format": _FORMAT,
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "orbax": ocp.__version__,
        },
        "fingerprint": fingerprint,
        "position": position,
        "leaves": {name: dataclasses.asdict(entry) for name, entry in entries.items()},
        "files": {
            path.relative_to(folder).as_posix(): _file_digest(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
    }
    content["checksum"] = _seal(content)
    (folder / _FILE).write_text(json.dumps(content, indent=1))


def read_manifest(folder: Path, remedy: str) -> dict[str, Any]:
    """Read ``manifest.json`` and check that it is whole."""
    try:
        content = json.loads((folder / _FILE).read_text())
        seal = content.pop("checksum")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"The checkpoint {folder} is damaged: its {_FILE} is missing or not whole "
            f"({type(error).__name__}). {remedy}"
        ) from error
    if content.get("format") != _FORMAT:
        raise CheckpointError(
            f"The checkpoint {folder} has the format {content.get('format')!r}; this version reads "
            f"{_FORMAT}. Read it with the version that wrote it, or start afresh in another folder."
        )
    if seal != _seal(content):
        raise CheckpointError(
            f"The checkpoint {folder} is damaged: its {_FILE} was changed after it was written. {remedy}"
        )
    return content


def check_files(folder: Path, manifest: dict[str, Any], remedy: str) -> None:
    """Raise unless every file is as it was written.

    A reader that stumbles over a broken file may do so in threads of its own, whose tracebacks nobody catches;
    so none is opened before all are known to be whole.
    """
    for name, checksum in manifest["files"].items():
        try:
            changed = _file_digest(folder / name) != checksum
        except OSError as error:
            raise CheckpointError(
                f"The checkpoint {folder} is damaged: its file {name} cannot be read "
                f"({type(error).__name__}). {remedy}"
            ) from error
        if changed:
            raise CheckpointError(
                f"The checkpoint {folder} is damaged: its file {name} was changed after it was "
                f"written. {remedy}"
            )


def check_origin(folder: Path, manifest: dict[str, Any], fingerprint: dict[str, Any]) -> None:
    """Raise when the checkpoint was made with another fingerprint."""
    there = manifest["fingerprint"]
    for name in sorted(there.keys() | fingerprint.keys()):
        a, b = there.get(name, "absent"), fingerprint.get(name, "absent")
        if a != b:
            raise CheckpointError(
                f"The checkpoint {folder} belongs to another run: {name!r} is {a!r} there and {b!r} here. "
                "Resume with the settings it was made with, or write to another folder."
            )


def check_leaves(
    folder: Path, manifest: dict[str, Any], wanted: dict[str, Entry]
) -> dict[str, Entry]:
    """Return the stored entries, or raise when they are not those of the tree that is asked for."""
    stored = {name: Entry.read(fields) for name, fields in manifest["leaves"].items()}
    advice = "Resume with the model, the optimizer and the library version that it was made with."
    for name in wanted:
        if name not in stored:
            raise CheckpointError(
                f"The checkpoint {folder} is of another tree: it has no leaf {name!r}. {advice}"
            )
    for name in stored:
        if name not in wanted:
            raise CheckpointError(
                f"The checkpoint {folder} is of another tree: its leaf {name!r} is not asked for. "
                f"{advice}"
            )
    for name, want in wanted.items():
        have = stored[name]
        if have.shape != want.shape:
            raise CheckpointError(
                f"The checkpoint {folder} has {name!r} with shape {have.shape}, but {want.shape} is "
                f"asked for. {advice}"
            )
        if have.dtype != want.dtype or (want.key_impl and have.key_impl != want.key_impl):
            raise CheckpointError(
                f"The checkpoint {folder} has {name!r} as {have.dtype}, but {want.dtype} is asked for, and a "
                f"cast would change values. {advice}"
            )
    return stored


def _file_digest(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _seal(content):
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
