"""Where a result comes from: command, versions, hardware; never a host's name or folders."""

import os
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

_PACKAGES = ("wormjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def command_line(module: str, argv: Sequence[str] | None = None) -> str:
    """Return the command as one types it in a clone, without ``--out`` and without absolute paths.

    Args:
      module: what follows ``python -m``.
      argv: its arguments; by default those of the process.

    Example:
      >>> command_line("experiments.worm", ["--seeds", "3", "--out", "/home/me/results"])
      'python -m experiments.worm --seeds 3'
    """
    words: list[str] = []
    rest = iter(sys.argv[1:] if argv is None else argv)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag == "--out":  # where results went does not change them
            if not equals:
                next(rest, None)
        elif flag.startswith("--") and equals:
            words.append(f"{flag}={_relative(value)}")
        else:
            words.append(_relative(word))
    return shlex.join(["python", "-m", module, *words])


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # wormjax may be run from a clone without being installed
    return found


def hardware() -> dict[str, Any]:
    """Return the kind of hardware: backend, device kind, counts, the processor's model."""
    devices = jax.devices()
    affinity = getattr(os, "sched_getaffinity", None)  # what this process may use; Linux only
    return {
        "backend": jax.default_backend(),
        "device_kind": devices[0].device_kind,
        "devices": len(devices),
        "processes": jax.process_count(),
        "cpu": _cpu_model(),
        "cpu_cores": len(affinity(0)) if affinity else os.cpu_count(),
    }


def _relative(word: str) -> str:
    return f".../{Path(word).name}" if Path(word).is_absolute() else word


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line)
    return next(names, platform.machine())
