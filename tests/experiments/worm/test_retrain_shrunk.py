"""A whole run that retrains the shrunk networks: its records beside the masked run's, and after an interrupt."""

import pytest

from experiments.worm import _unit
from experiments.worm._config import ARMS

SHRUNK = ("--retrain", "shrunk", "--speed_rounds", "2")
SOME = ("--arms", "dense", "standard", "worm", "--seeds", "2")


pytestmark = pytest.mark.slow  # a second run of all arms


@pytest.fixture(scope="module")
def shrunk(worm, tmp_path_factory):
    return worm(tmp_path_factory.mktemp("shrunk") / "run", *worm.tiny, *SOME, *SHRUNK)


def test_it_tells_of_the_same_networks_as_the_masked_run(seven, shrunk):
    """The searches are the same bits; from then on sums are taken in another order."""
    assert (shrunk.code, shrunk.err) == (0, "")
    for arm in ("dense", "standard", "worm"):
        for seed in (0, 1):
            assert shrunk.epochs(arm, seed, "search") == seven.epochs(arm, seed, "search")
            pairs = zip(*(r.epochs(arm, seed, "retrain") for r in (shrunk, seven)), strict=True)
            for mine, masked in pairs:
                assert mine["epoch"] == masked["epoch"]
                for split in ("validation_accuracy", "test_accuracy"):
                    assert mine[split] == pytest.approx(masked[split], abs=2 / 64)
                losses = mine["train_loss"], masked["train_loss"]
                assert losses == (None, None) or losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_what_it_saves_is_on_record(seven, shrunk):
    for arm in ("standard", "worm"):
        for seed in (0, 1):
            first, second = shrunk.epochs(arm, seed, "search")[-1]["kept"]
            share = (64 * first + first * second + 10 * second) / (64 * 64 + 64 * 64 + 640)
            assert shrunk.result(arm, seed)["retrain_share"] == pytest.approx(share)
    assert {seven.result(arm, 0)["retrain_share"] for arm in ARMS} == {1.0}
    page = (shrunk.path / "report.html").read_text()
    assert "removes the channels that the ticket does not keep" in page
    assert "its share of the multiply-accumulates" in page


def test_an_interrupted_run_goes_on_where_it_stood(worm, tmp_path, monkeypatch):
    argv = ("--arms", "standard", "--seeds", "1", "--checkpoint_seconds", "0", *SHRUNK)
    argv += ("--shrunk_optimizer", "carried")
    whole = worm(tmp_path / "whole", *worm.tiny, *argv)

    def interrupted(setup, arm, seeds, start, *, log, after_epoch):
        def stop(now):
            after_epoch(now)
            raise KeyboardInterrupt

        return retrain(setup, arm, seeds, start, log=log, after_epoch=stop)

    retrain = _unit.retrain
    monkeypatch.setattr(_unit, "retrain", interrupted)
    cut = worm(tmp_path / "cut", *worm.tiny, *argv)
    assert cut.code == 130
    [timed] = [r for r in cut.records if r["kind"] == "speed"]
    with (cut.path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "epo')  # torn

    monkeypatch.setattr(_unit, "retrain", retrain)
    resumed = worm(cut.path, *worm.tiny, *argv, "--resume")
    assert (resumed.code, resumed.err) == (0, "")
    assert [untimed(r) for r in resumed.records] == [untimed(r) for r in whole.records]
    # to the last digit of its clocks: it was not timed again
    assert [r for r in resumed.records if r["kind"] == "speed"] == [timed]


def untimed(record):
    return {key: value for key, value in record.items() if "seconds" not in key}
