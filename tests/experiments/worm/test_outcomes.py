"""What a run says when there is no ticket, and when an arm breaks."""

import json

import pytest

from experiments.training import MetricsLog
from experiments.worm import _job as job


def test_wd8_no_ticket_at_the_cap_is_reported_and_nothing_is_pruned(without_ticket):
    run = without_ticket
    assert (run.code, run.err) == (0, "")
    result = run.result("standard", 0)
    assert (result["outcome"], result["emerged_at"]) == ("no_ticket", None)
    assert [r["epoch"] for r in run.records if r["kind"] == "epoch"] == [0, 1, 2]  # the cap is 2
    assert not any(r["emerged"] for r in run.epochs("standard", 0, "search"))
    assert run.epochs("standard", 0, "retrain") == []
    assert not (run.path / "checkpoints" / "standard-0-retrain").exists()
    assert run.measured("standard", "epochs_to_ticket")["seeds"] == [{"above": 2}]
    assert run.measured("standard", "accuracy_final") == {
        "mean": None,
        "sd": None,
        "n": 0,
        "seeds": [None],
    }
    sentence = (
        "No ticket within 2 epochs, so that nothing was pruned or retrained: standard, seed 0."
    )
    assert sentence in " ".join(run.out.split())
    assert sentence in (run.path / "report.html").read_text()


@pytest.fixture(scope="module")
def diverged(worm, tmp_path_factory):
    wild = ("--learning_rate", "1e30", "--arms", "standard", "--seeds", "2")
    return worm(tmp_path_factory.mktemp("diverged") / "run", *worm.tiny, *wild)


def test_an_arm_that_diverges_has_failed(diverged):
    assert diverged.code == 1
    [sentence] = diverged.err.splitlines()
    assert sentence.startswith("python -m experiments.worm: arm standard failed: ")
    assert "layers/0/norm/scale" in sentence
    failures = [r for r in diverged.records if r["kind"] == "failure"]
    assert [(r["arm"], r["seed"]) for r in failures] == [("standard", 0)]
    assert failures[0]["why"] in sentence
    assert "Traceback" not in diverged.out


class Stub:
    """A unit that writes what a real one would, or breaks."""

    broken = "gradclip"
    ran = ()

    def __init__(self, setup, folder, progress, arm, seeds):
        self.arm, self.seeds = arm, seeds

    def restore(self):
        return None, 4 if self.arm == self.broken else None  # it broke after its first checkpoint

    def run(self, log, start, speed=None):
        Stub.ran += ((self.arm, *self.seeds),)
        seed = self.seeds[0]
        log.write({"kind": "epoch", "phase": "search", "arm": self.arm, "seed": seed, "epoch": 0})
        if self.arm == self.broken:
            raise ValueError("it broke.")
        log.write({"kind": "result", "arm": self.arm, "seed": seed})


@pytest.fixture
def stubbed(monkeypatch):
    """The job with stubs for its units, and without its report."""
    monkeypatch.setattr(job, "Unit", Stub)
    monkeypatch.setattr(Stub, "ran", ())
    monkeypatch.setattr(job.Job, "report", lambda self, folder, failures, *_: failures)
    arms = ("--arms", "standard", "gradclip", "worm", "--seeds", "2")

    def start(worm, path, *more):
        run = worm(path, *worm.tiny, *arms, *more)
        return run.code, run.records

    return start


def test_the_other_arms_go_on_and_a_resume_keeps_their_results(stubbed, worm, tmp_path):
    failures, records = stubbed(worm, tmp_path / "run")
    assert failures == {"gradclip": "it broke."}
    after = (("standard", 0), ("standard", 1), ("gradclip", 0), ("worm", 0), ("worm", 1))
    assert Stub.ran == after
    assert [(r["arm"], r["seed"]) for r in records if r["kind"] == "result"] == [
        unit for unit in after if unit[0] != "gradclip"
    ]
    assert stubbed(worm, tmp_path / "run", "--resume") == (failures, records)
    assert Stub.ran == after  # nothing ran again


def test_a_resume_drops_what_belongs_to_no_checkpoint(stubbed, worm, tmp_path):
    path = tmp_path / "run"
    stubbed(worm, path)
    metrics = path / "metrics.jsonl"
    whole = metrics.read_bytes().splitlines(keepends=True)
    for lines, ran in ((0, 5), (1, 5), (2, 4), (3, 4), (4, 3), (6, 2), (7, 2), (8, 1)):
        Stub.ran = ()
        metrics.write_bytes(b"".join(whole[:lines]) + b'{"kind": "epo')  # a torn line
        stubbed(worm, path, "--resume")
        assert metrics.read_bytes() == b"".join(whole), lines
        assert len(Stub.ran) == ran


def test_a_result_of_half_a_cohort_is_computed_again(stubbed, worm, tmp_path, monkeypatch):
    def run(self, log, start, speed=None):
        Stub.ran += ((self.arm, *self.seeds),)
        for seed in self.seeds:
            log.write({"kind": "result", "arm": self.arm, "seed": seed})

    monkeypatch.setattr(Stub, "run", run)
    path = tmp_path / "run"
    _, records = stubbed(worm, path, "--driver", "scan")
    assert [(r["arm"], r["seed"]) for r in records[:3]] == [
        ("standard", 0),
        ("standard", 1),
        ("gradclip", 0),
    ]
    Stub.broken = ""
    with MetricsLog(path / "metrics.jsonl", records=3):
        pass  # cut between the two results of gradclip
    Stub.ran = ()
    assert stubbed(worm, path, "--driver", "scan", "--resume")[1] == records
    assert Stub.ran == (("gradclip", 0, 1), ("worm", 0, 1))
    assert json.loads((path / "config.json").read_text())["resumed"]
