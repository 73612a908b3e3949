"""Stops, resumes, no ticket, divergence."""

import json

import pytest

from experiments.training import MetricsLog

FEW = ("--methods", "inherit", "--draw_epochs", "1", "--seeds", "1", "--checkpoint_seconds", "0")


def untimed(path):
    """The records without their clocks."""
    records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


def test_a_run_that_is_stopped_twice_ends_with_the_same_bits(early_bird, tmp_path, monkeypatch):
    flags = (*early_bird.tiny, *FEW)
    whole = early_bird(tmp_path / "whole", *flags)
    assert whole.code == 0
    write = MetricsLog.write

    def stop(at):
        def counted(self, record):
            if self.records == at:
                raise KeyboardInterrupt
            write(self, record)

        monkeypatch.setattr(MetricsLog, "write", counted)

    cut = tmp_path / "cut"
    for at in (3, 7):  # in the dense training; in a retraining
        stop(at)
        run = early_bird(cut, *flags, *(("--resume",) if cut.exists() else ()))
        assert (run.code, "interrupted" in run.err) == (130, True)
    monkeypatch.setattr(MetricsLog, "write", write)
    assert early_bird(cut, *flags, "--resume").code == 0
    assert untimed(cut) == untimed(tmp_path / "whole")
    results = [r for r in untimed(cut) if r["kind"] == "result"]
    assert all(len(r["weights"]) == 64 for r in results)
    again = early_bird(cut, *flags, "--resume")  # nothing is left to do
    assert (again.code, untimed(cut)) == (0, untimed(tmp_path / "whole"))


def test_no_ticket_is_reported_and_the_rest_goes_on(early_bird, tmp_path):
    never = ("--epsilon", "0", "--epochs", "2", "--milestones", "2")
    run = early_bird(tmp_path / "run", *early_bird.tiny, *FEW, *never)
    assert (run.code, run.err) == (0, "")
    assert run.result("dense", 0)["emerged_at"] == [None]
    assert run.result("inherit-0.6", 0)["outcome"] == "no_ticket"
    assert run.epochs("inherit-0.6", 0) == []
    assert run.measured("inherit-0.6", "accuracy_final") == [None]
    assert [r["epoch"] for r in run.epochs("draw1-0.6", 0)] == [1, 2]
    sentence = "No ticket within 2 epochs at p = 60%, so that nothing was drawn there: seed 0."
    assert sentence in " ".join(run.out.split())


def test_a_dense_training_that_diverges_fails_the_run(early_bird, tmp_path):
    run = early_bird(tmp_path / "run", *early_bird.tiny, *FEW, "--learning_rate", "1e30")
    assert run.code == 1
    first, *others = run.err.splitlines()
    assert first.startswith("python -m experiments.early_bird: arm dense failed: ")
    assert "Lower learning_rate." in first
    assert len(others) == 2
    assert all("failed: The dense training failed" in line for line in others)
    assert "Traceback" not in run.out + run.err


@pytest.mark.slow
def test_seeds_by_vmap_agree_with_seeds_one_by_one(early_bird, tiny, tmp_path):
    run = early_bird(
        tmp_path / "run",
        *early_bird.tiny,
        *("--seeds", "2", "--driver", "scan"),
    )
    assert (run.code, run.err) == (0, "")
    for seed in (0, 1):
        ours, theirs = run.result("dense", seed), tiny.result("dense", seed)
        assert ours["emerged_at"] == theirs["emerged_at"]
        for arm in ("dense", "inherit-0.6", "snip-0.6", "draw1-0.6"):
            a, b = run.epochs(arm, seed), tiny.epochs(arm, seed)
            assert [r["epoch"] for r in a] == [r["epoch"] for r in b]
            assert a[-1]["train_loss"] == pytest.approx(b[-1]["train_loss"], rel=0.02)
