"""The benchmark of an epoch runs, small, and returns the rows that it promises."""

import importlib.util
import json
import math

import numpy as np
import pytest

from benchmarks import epoch
from benchmarks._torch import find_torch

TINY = [
    *("--images", "10", "--batch", "4", "--side", "8", "--blocks", "1", "--widths", "4"),
    *("--rounds", "2", "--seconds", "0", "--eager"),
]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_epoch(dtype, tmp_path, capsys):
    rows = epoch.main([*TINY, "--dtype", dtype, "--json", str(tmp_path / "rows.json")])
    printed = capsys.readouterr().out
    record = json.loads((tmp_path / "rows.json").read_text())
    has_grain = importlib.util.find_spec("grain") is not None
    streamed = ["streamed epoch / our epoch"] if has_grain else []
    torch = ["our epoch / PyTorch's epoch"] if find_torch() else []
    targets = {"our epoch / plain JAX loop": 1.05, **dict.fromkeys(streamed + torch)}
    assert {row.name: row.target for row in rows} == targets
    assert all(math.isfinite(row.ratio.median) and row.name in printed for row in rows)
    names = ["ours", "plain", *(["streamed"] if streamed else []), *(["torch"] if torch else [])]
    told = {k: v for k, v in record["notes"].items() if k.startswith("images/s")}
    assert list(told) == [f"images/s, {name}" for name in names]
    assert bool(streamed) != ("pip install 'wormjax[experiments]'" in printed)


def test_an_epoch_that_trains_something_else_is_not_timed():
    with pytest.raises(AssertionError, match="ours does not train as the others do"):
        epoch._check({"plain": lambda: np.full(3, 2.3), "ours": lambda: np.full(3, 1.9)})


def test_presets_name_flags_that_there_are(capsys):
    with pytest.raises(SystemExit):
        epoch.main(["--help"])
    printed = capsys.readouterr().out
    for preset in epoch.PRESETS.values():
        for name in preset:
            assert f"--{name} " in printed
