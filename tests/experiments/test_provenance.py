import platform
import socket

import jax

from experiments._provenance import command_line, hardware, versions


def test_the_command_leaves_out_the_folder_and_absolute_paths():
    argv = [
        "--out",
        "/tmp/a b",
        "--data=/mnt/data/cifar",
        "/etc/x",
        "--include",
        "bn 1",
        "--out=/q",
    ]
    assert command_line("experiments.worm", argv) == (
        "python -m experiments.worm --data=.../cifar .../x --include 'bn 1'"
    )
    assert command_line("experiments.worm", ["--out"]) == "python -m experiments.worm"


def test_the_command_is_that_of_the_process(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/worm.py", "--seeds", "3"])
    assert command_line("experiments.worm") == "python -m experiments.worm --seeds 3"


def test_versions_and_hardware():
    assert versions()["jax"] == jax.__version__
    assert versions()["python"] == platform.python_version()
    found = hardware()
    assert found["devices"] == jax.device_count()
    assert found["backend"] == "cpu"
    assert found["cpu_cores"] >= 1
    assert socket.gethostname() not in found.values()
