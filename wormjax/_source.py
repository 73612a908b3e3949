"""Where in the user's code an equation comes from."""

import sys
import traceback
from pathlib import Path

from jax.extend.core import JaxprEqn

_LIBRARIES = ("jax", "flax", "equinox", "keras", "wormjax")  # where nobody looks for a mistake


def source_line(eqn: JaxprEqn) -> str:
    """Return ``file.py:line`` of the innermost frame outside JAX and the layer libraries, or "" where unknown."""
    info = getattr(eqn.source_info, "traceback", None)
    if info is None:
        return ""
    folders = tuple(
        f"{Path(file).parent}/"
        for name in _LIBRARIES
        if (file := getattr(sys.modules.get(name), "__file__", None))
    )
    frames = [
        (f.f_code.co_filename, line) for f, line in traceback.walk_tb(info.as_python_traceback())
    ]
    for file, line in reversed(frames):
        if not file.startswith(folders):
            return f"{Path(file).name}:{line}"
    return ""
