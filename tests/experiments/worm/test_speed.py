"""One ticket of each arm is shrunk and timed, once; what it costs is on record, in the terminal and on the page."""

import json
import math
import statistics

import numpy as np
import pytest

from experiments.worm import _job as job
from experiments.worm import _shrunk
from experiments.worm._config import ARMS
from wormjax.structure._replay import ReplayError

SEARCHING = [arm for arm in ARMS if arm != "dense"]
CLOCKS = ("step_seconds", "inference_seconds")
NETWORKS = ["dense", "masked", "shrunk", "narrow"]


def speeds(run):
    return [r for r in run.records if r["kind"] == "speed"]


def flat(text):
    return " ".join(text.split())


def test_one_ticket_of_each_arm_is_timed(seven):
    assert [(r["arm"], r["seed"]) for r in speeds(seven)] == [(arm, 0) for arm in SEARCHING]
    for record in speeds(seven):
        for clock in CLOCKS:
            assert list(record[clock]) == NETWORKS
            for seconds in record[clock].values():
                assert len(seconds) == 4  # as the fixture asks
                assert all(math.isfinite(s) and s > 0 for s in seconds)


def test_sizes_are_those_of_the_tickets_mask(seven):
    for record in speeds(seven):
        searched = seven.epochs(record["arm"], record["seed"], "search")
        first, second = searched[-1]["kept"]
        assert record["widths"] == {
            "head/kernel:0": [64, second],
            "layers/0/dense/kernel:1": [64, first],
        }

        def parameters(a, b):
            return 64 * a + 2 * a + a * b + 2 * b + 10 * b + 10

        assert record["parameters"] == [parameters(64, 64), parameters(first, second)]
        assert record["macs"] == [
            64 * 64 + 64 * 64 + 640,
            64 * first + first * second + 10 * second,
        ]
        assert record["losses"] == {name: ["exact", ""] for name in record["widths"]}
        assert (record["still_masked"], record["no_narrow"]) == (0, "")
        assert 0 <= record["difference"] < 1e-5


def test_the_summary_sums_up_the_rounds(seven):
    for told, record in zip(seven.summary["speed"], speeds(seven), strict=True):
        assert {k: v for k, v in told.items() if k not in CLOCKS} == {
            k: v for k, v in record.items() if k not in CLOCKS
        }
        for clock in CLOCKS:
            for network, seconds in record[clock].items():
                summed = told[clock][network]
                assert summed["median"] == statistics.median(seconds)
                assert summed["quartiles"] == pytest.approx(np.quantile(seconds, [0.25, 0.75]))
                ratios = [a / b for a, b in zip(seconds, record[clock]["dense"], strict=True)]
                assert summed["over_dense"]["median"] == statistics.median(ratios)
                assert summed["rounds"] == 4


def test_the_terminal_and_the_page_show_every_network(seven):
    page = (seven.path / "report.html").read_text()
    for record in speeds(seven):
        shrunk = record["step_seconds"]["shrunk"]
        low, high = np.quantile(shrunk, [0.25, 0.75])
        cell = f"{1e3 * statistics.median(shrunk):.3g} ({1e3 * low:.3g}–{1e3 * high:.3g})"
        for title in ("dense", "masked", "shrunk", "built narrow"):
            row = f"{record['arm']}, seed 0: {title}"
            assert flat(seven.out).count(row) >= 1
            assert row in page
        assert cell in flat(seven.out)
        assert cell in page
        told = f"{record['arm']}, seed 0: channels go from 2 groups (2 exact)"
        assert told in flat(seven.out)
        assert told in page
    share = 100 * speeds(seven)[0]["macs"][1] / speeds(seven)[0]["macs"][0]
    assert f"{share:.1f}" in page


def test_the_page_shows_the_plan_of_the_worm_arms_ticket(seven):
    page = (seven.path / "report.html").read_text()
    [record] = [r for r in speeds(seven) if r["arm"] == "worm"]
    assert "pruned channels of worm, seed 0, group by group" in page
    for before, after in (*record["widths"].values(), record["parameters"], record["macs"]):
        assert f"{before:,} -&gt; {after:,} ({after / before:.1%})" in page


@pytest.mark.slow
def test_a_resumed_run_times_nothing_again(worm, without_ticket, seven, monkeypatch):
    before = (seven.path / "metrics.jsonl").read_bytes()
    monkeypatch.setattr(job.SpeedTest, "record", lambda *_: pytest.fail("it was timed again"))
    again = worm(seven.path, *worm.tiny, "--seeds", "2", "--resume")
    assert again.code == 0
    assert (seven.path / "metrics.jsonl").read_bytes() == before
    assert again.summary["speed"] == seven.summary["speed"]


def test_without_a_ticket_nothing_is_timed(without_ticket):
    assert speeds(without_ticket) == []
    assert without_ticket.summary["speed"] == []
    assert "clock" not in (without_ticket.path / "report.html").read_text()


@pytest.fixture
def start(worm, tmp_path):
    def run(*argv, path=tmp_path / "run"):
        arms = ("--arms", "standard", "--seeds", "1")
        return worm(path, *worm.tiny, *arms, *argv)

    return run


@pytest.mark.slow
def test_no_rounds_no_timing(start):
    run = start("--speed_rounds", "0")
    assert (run.code, speeds(run), run.summary["speed"]) == (0, [], [])
    assert "Speed of one ticket" not in run.out


@pytest.fixture
def unshrinkable(monkeypatch):
    def shrink(*_, **__):
        raise ReplayError("sort at model.py:7: a <sorted> axis cannot lose entries.")

    monkeypatch.setattr(_shrunk.structure, "shrink", shrink)


@pytest.mark.slow
def test_a_ticket_that_cannot_be_shrunk_is_a_sentence(start, unshrinkable):
    run = start()
    assert (run.code, run.err) == (0, "")
    [record] = speeds(run)
    why = "sort at model.py:7: a <sorted> axis cannot lose entries."
    assert record == {"kind": "speed", "arm": "standard", "seed": 0, "why": why}
    sentence = f"standard, seed 0 could not be shrunk: {why}"
    assert sentence in flat(run.out)
    assert (
        sentence.replace("<", "&lt;").replace(">", "&gt;") in (run.path / "report.html").read_text()
    )
    assert run.result("standard", 0)["outcome"] == "ticket"  # it was retrained all the same
    assert run.summary["speed"] == [record]


@pytest.mark.slow
def test_an_arm_that_is_to_be_retrained_shrunk_and_cannot_has_failed(start, unshrinkable):
    run = start("--retrain", "shrunk")
    assert run.code == 1
    assert "arm standard failed: sort at model.py:7" in run.err
    assert [r["why"][:4] for r in run.records if r["kind"] == "failure"] == ["sort"]
    assert json.loads((run.path / "config.json").read_text())["config"]["retrain"] == "shrunk"
