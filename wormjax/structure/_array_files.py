"""Named arrays on disk: one Orbax checkpoint each time, read back as NumPy; nothing is pickled."""

from pathlib import Path
from typing import Any

import numpy as np


def save_arrays(folder: Path, arrays: dict[str, Any]) -> None:
    """Write arrays, none of them without entries (Orbax refuses those), into a folder that does not exist."""
    ocp, checkpointer = _orbax()
    checkpointer.save(folder, args=ocp.args.PyTreeSave(arrays))


def restore_arrays(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Read arrays by name."""
    ocp, checkpointer = _orbax()
    as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
    return checkpointer.restore(folder, args=ocp.args.PyTreeRestore(restore_args=as_numpy))


def _orbax() -> tuple[Any, Any]:
    import orbax.checkpoint as ocp  # takes longer to import than the rest of wormjax

    # one key-value store for all arrays of a tree: a file an array takes twice as long
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=True, use_zarr3=False)
    return ocp, ocp.Checkpointer(handler)
