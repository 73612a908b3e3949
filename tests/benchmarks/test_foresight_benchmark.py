"""The benchmark of foresight pruning runs, small, and returns the rows that it promises."""

import json
import math

import pytest

from benchmarks import foresight
from experiments.models import VGGConfig


@pytest.mark.slow
def test_foresight(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        foresight, "NETWORKS", {"VGG": VGGConfig(widths=(3, "M", 4)), "other": None}
    )
    path = tmp_path / "rows.json"
    rows = foresight.main(
        [
            "--rounds",
            "2",
            "--seconds",
            "0",
            "--batch",
            "2",
            "--side",
            "6",
            "--network",
            "VGG",
            "--json",
            str(path),
        ]
    )
    printed = capsys.readouterr().out
    assert all(row.name in printed and math.isfinite(row.ratio.median) for row in rows)
    assert [r["name"] for r in json.loads(path.read_text())["rows"]] == [r.name for r in rows]
    assert {row.name: row.ratio.median for row in rows}["programs of 100 rounds / 1"] == 1


def test_a_hundred_rounds_are_one_program():
    assert foresight._programs().ratio.median == 1
