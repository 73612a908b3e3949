"""Every benchmark runs, small, and returns the rows that it promises; what they say is not asserted."""

import json
import math

import jax
import pytest

from benchmarks import placement, selection, train_step, worm_overhead
from benchmarks._torch import find_torch

TINY_NETWORK = [
    *("--batch", "4", "--side", "8", "--blocks", "1", "--widths", "4", "8"),
    *("--rounds", "2", "--seconds", "0"),
]
COUNTED = ("flops", "bytes accessed")


@pytest.fixture
def run(tmp_path, capsys):
    def run(benchmark, *flags):
        rows = benchmark.main([*flags, "--json", str(tmp_path / "rows.json")])
        record = json.loads((tmp_path / "rows.json").read_text())
        printed = capsys.readouterr().out
        for row, recorded in zip(rows, record["rows"], strict=True):
            assert math.isfinite(row.ratio.median), row.name
            assert recorded["ratio"]["median"] == row.ratio.median
            assert row.name in printed
        return {row.name: row for row in rows}

    return run


def test_selection(run):
    rows = run(selection, "--entries", "4096", "--rounds", "2", "--sort-rounds", "1")
    kinds = ("random", "ties")
    peers = [f"top_masks / torch.kthvalue, {kind}" for kind in kinds if find_torch()]
    targets = {
        **{f"argsort / top_masks, {kind}": (20.0, True) for kind in kinds},
        **dict.fromkeys(peers, (1.5, False)),
        "extra memory of top_masks / stored keys": (0.01, False),
    }
    others = {
        "extra memory of argsort / stored keys",
        "pack / np.packbits",
        "unpack / np.unpackbits",
        "mask_distance / np.count_nonzero(a != b)",
    }
    assert set(rows) == set(targets) | others
    for name, target in targets.items():
        assert (rows[name].target, rows[name].at_least) == target


@pytest.mark.slow
def test_worm_overhead(run):
    rows = run(worm_overhead, *TINY_NETWORK)
    targets = {"wj.detect / step": 1.0, "step that detects / without": 2.0}
    for worm in ("worm", "worm(every=n)"):
        targets[f"step with {worm} / without"] = 1.01
        targets |= {f"{count} with {worm} / without": 1.01 for count in COUNTED}
    assert {name: row.target for name, row in rows.items()} == targets


@pytest.mark.slow
def test_train_step(run):
    rows = run(train_step, *TINY_NETWORK)
    ours = "our step / plain JAX step"
    targets = {ours: 1.02, **{f"{count} of {ours}": 1.02 for count in COUNTED}}
    parts = ("forward", "input gradients", "weight gradients", "the rest")
    others = {
        *(f"{part} / step" for part in parts),
        *(f"{part} / forward of convolutions" for part in parts[1:3]),
        *(["our step / PyTorch's step"] if find_torch() else []),
    }
    assert {name: row.target for name, row in rows.items() if name in targets} == targets
    assert set(rows) - set(targets) == others


def test_placement(run):
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam divides a float by its int32 count
        rows = run(placement, "--warmup", "2", "--steps", "4")
    targets = {}
    for name in ("sgd", "momentum 0.9", "adam", "adamw", "rmsprop", "lion"):
        targets[f"{name}, placed first: truncated / live"] = None
        targets[f"{name}, placed last: truncated / live"] = pytest.approx(0.003 * 1.05)
    assert {name: row.target for name, row in rows.items()} == targets
    # after two live updates and four truncated ones it is arithmetic: what is placed last holds
    assert all(row.holds for name, row in rows.items() if "last" in name)


def test_a_step_that_computes_something_else_is_not_timed():
    losses = {"plain": lambda: 2.3, "ours": lambda: 2.2}
    with pytest.raises(AssertionError, match="ours is not the step of the others"):
        train_step._check(losses)


def test_without_pytorch_it_says_so(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert find_torch() is None
    assert "pip install torch" in capsys.readouterr().out
