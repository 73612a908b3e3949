"""The benchmarks of the structure engine run, small, and return the rows that they promise."""

import json
import math

import pytest

from benchmarks import alignment, shrink, structure
from benchmarks._large import EncoderConfig, ResNetConfig
from wormjax.structure._alignment import load_alignment

ENCODER = EncoderConfig(1, width=16, heads=2, depth=8, hidden=24, vocabulary=10, positions=128)
RESNET = ResNetConfig(blocks=(1, 1), width=4)
FEW = ("--rounds", "2", "--seconds", "0")


@pytest.fixture
def run(tmp_path, capsys):
    def run(benchmark, *flags):
        rows = benchmark.main([*flags, *FEW, "--json", str(tmp_path / "rows.json")])
        record = json.loads((tmp_path / "rows.json").read_text())
        assert [row["name"] for row in record["rows"]] == [row.name for row in rows]
        assert all(math.isfinite(row.ratio.median) for row in rows)
        printed = capsys.readouterr().out
        assert all(row.name in printed for row in rows)
        return {row.name: row for row in rows}

    return run


def test_alignment_writes_a_table_that_can_be_read(run, tmp_path):
    rows = run(
        alignment,
        *("--widest", "16", "--rows", "8", "--batch", "1", "--write", str(tmp_path / "toy.json")),
    )
    assert set(rows) == {f"{case.name}: 15 / 16" for case in alignment.CASES}
    table = load_alignment(tmp_path / "toy.json")
    assert table.backend == "cpu"
    assert table.record["reference_width"] == 16
    assert {(w, side) for w, sides in table.speeds.items() for side in sides} == set(
        alignment.CASES
    )
    for sides in table.speeds.values():
        for speeds in sides.values():
            assert speeds.widths.tolist() == alignment.measured_widths(16)
            assert speeds.at(16) == 1


@pytest.mark.slow
def test_structure(run, monkeypatch):
    monkeypatch.setattr(structure, "LARGE", {"ResNet": RESNET, "encoder": ENCODER})
    monkeypatch.setattr(structure, "DEEPER", {"layers": [ENCODER, ENCODER]})
    rows = run(structure)
    expected = {f"shrink of {name} / 2 s" for name in ("ResNet", "encoder")}
    expected |= {f"find_groups of {name} / 5 s" for name in ("ResNet", "encoder")}
    expected |= {f"memory of find_groups, {name} / 1 GiB" for name in ("ResNet", "encoder")}
    assert set(rows) == expected  # one depth has no ratio to another
    assert all(row.target == 1.0 for row in rows.values())
    assert all(0 < row.ratio.median < math.inf for row in rows.values())


@pytest.mark.parametrize(
    "name",
    [
        "transformer",
        pytest.param("VGG-16", marks=pytest.mark.slow),
        pytest.param("ResNet-18", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_shrink(run, name):
    """Shapes and values are checked by the benchmark itself; the programs' costs need no clock."""
    rows = run(
        shrink,
        *("--networks", name, "--batch", "2", "--tokens", "8", "--width", "16"),
    )
    targets = {row.name: row.target for row in rows.values() if row.target is not None}
    costs = [f"{cost} of {name} step, shrunk / narrow" for cost in ("flops", "bytes accessed")]
    assert targets == {
        f"{name} step, shrunk / narrow": 1.1,
        f"{name} inference, shrunk / narrow": 1.1,
        **dict.fromkeys(costs, 1.01),
    }
    assert rows[costs[0]].holds
    assert rows[f"{name} step, dense / shrunk multiply-accumulates"].ratio.median > 2
