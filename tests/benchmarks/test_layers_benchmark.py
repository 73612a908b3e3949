"""The benchmark of layer tickets runs, small, and returns the rows that it promises."""

import math

import pytest

from benchmarks import layers


@pytest.mark.slow
def test_layers(capsys):
    rows = layers.main(
        [
            *("--networks", "ResNet", "--batch", "2", "--side", "8", "--width", "4"),
            *("--blocks", "2", "--rounds", "2", "--seconds", "0"),
        ]
    )
    by_name = {row.name: row for row in rows}
    bound = by_name["ResNet step, dense / ticket"]
    counted = by_name["ResNet, dense / ticket multiply-accumulates"]
    assert bound.at_least
    assert bound.target == pytest.approx(0.9 * counted.ratio.median)
    assert by_name["flops of ResNet step, ticket / native"].holds
    assert all(math.isfinite(row.ratio.median) for row in rows)
    assert "ResNet step, dense / ticket" in capsys.readouterr().out
