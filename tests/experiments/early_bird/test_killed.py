"""SIGKILL at any moment and ``--resume`` give the bits of a run that was never stopped."""

import functools
import json

import pytest

from tests.experiments import processes
from tests.experiments.processes import finish, kill_when

pytestmark = pytest.mark.slow  # four starts of the experiment

start = functools.partial(processes.start, "early_bird")
ARGS = ("--methods", "inherit", "snip", "--draw_epochs", "1", "--seeds", "1")


def lines(path, arm):
    """How many epochs of an arm are on record."""
    file = path / "metrics.jsonl"
    return file.read_text().count(f'"arm": "{arm}"') if file.exists() else 0


@pytest.fixture(scope="module")
def runs(early_bird, tmp_path_factory):
    """An uninterrupted run, and one that was killed in the dense training and in a retraining."""
    folder = tmp_path_factory.mktemp("killed")
    whole, cut = folder / "whole", folder / "cut"
    flags = (*early_bird.tiny, *ARGS, "--checkpoint_seconds", "0")
    finish(start(whole, *flags), whole)
    kill_when(start(cut, *flags), cut, lambda: lines(cut, "dense") >= 3)
    with (cut / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "epoch", "phase": "den')  # a line torn in its middle
    kill_when(start(cut, *flags, "--resume"), cut, lambda: lines(cut, "snip-0.3") >= 2)
    finish(start(cut, *flags, "--resume"), cut)
    return whole, cut


def untimed(value):
    """A record without its clocks."""
    if isinstance(value, dict):
        return {k: untimed(v) for k, v in value.items() if "seconds" not in k and k != "timing"}
    return [untimed(v) for v in value] if isinstance(value, list) else value


def test_records_masks_and_weights_are_bit_identical(runs):
    records = [
        [untimed(json.loads(line)) for line in (path / "metrics.jsonl").read_text().splitlines()]
        for path in runs
    ]
    assert records[0] == records[1]
    results = [r for r in records[0] if r["kind"] == "result"]
    assert [r["arm"] for r in results] == ["dense", "inherit-0.3", "snip-0.3", "draw1-0.3"]
    assert all(len(r["weights"]) == 64 for r in results)


def test_the_summaries_agree(runs):
    whole, cut = (json.loads((p / "summary.json").read_text()) for p in runs)
    assert untimed(whole) == untimed(cut)


def test_the_kept_weights_hold_the_same_bits(runs):
    for folder in sorted(p.name for p in (runs[0] / "checkpoints").iterdir()):
        leaves = []
        for path in runs:
            newest = max((path / "checkpoints" / folder).glob("[0-9]*"))
            leaves.append(json.loads((newest / "manifest.json").read_text())["leaves"])
        assert leaves[0] == leaves[1], folder


def test_damaged_weights_of_a_draw_are_one_sentence(early_bird, runs):
    _, cut = runs
    [newest] = (cut / "checkpoints" / "dense-0-epoch1").glob("[0-9]*")
    (newest / "manifest.json").unlink()
    records = (cut / "metrics.jsonl").read_text().splitlines(keepends=True)
    kept = [r for r in records if '"arm": "draw1-0.3"' not in r]
    (cut / "metrics.jsonl").write_text("".join(kept))
    for store in (cut / "checkpoints").glob("draw1-*"):
        for path in sorted(store.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    flags = (*early_bird.tiny, *ARGS, "--checkpoint_seconds", "0")
    run = early_bird(cut, *flags, "--resume")
    assert run.code == 2
    assert "is damaged" in run.err
    assert "manifest.json is missing" in run.err
    assert "Traceback" not in run.out + run.err
