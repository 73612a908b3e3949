"""Experiments in processes of their own, which tests stop where they like."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(name, path, *argv):
    """Begin ``python -m experiments.NAME``; what it says goes to a log beside its folder."""
    command = [sys.executable, "-m", f"experiments.{name}", "--out", str(path), *argv]
    with path.with_suffix(".log").open("a") as log:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        )


def finish(process, path):
    """Wait for the end."""
    assert process.wait(timeout=300) == 0, path.with_suffix(".log").read_text()[-3000:]


def kill_when(process, path, moment):
    """SIGKILL as soon as the folder looks a certain way."""
    while not moment():
        assert process.poll() is None, path.with_suffix(".log").read_text()[-3000:]
        time.sleep(0.0002)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
