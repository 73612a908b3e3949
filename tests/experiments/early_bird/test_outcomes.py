"""What a run says when there is no ticket, when it diverges, and when seeds run by vmap."""

import pytest

FEW = ("--methods", "inherit", "--draw_epochs", "1", "--seeds", "1", "--checkpoint_seconds", "0")


@pytest.mark.slow
def test_no_ticket_is_reported_and_the_rest_goes_on(early_bird, tmp_path):
    never = ("--epsilon", "0", "--epochs", "2", "--milestones", "2")
    run = early_bird(tmp_path / "run", *early_bird.tiny, *FEW, *never)
    assert (run.code, run.err) == (0, "")
    assert run.result("dense", 0)["emerged_at"] == [None]
    assert run.result("inherit-0.3", 0)["outcome"] == "no_ticket"
    assert run.epochs("inherit-0.3", 0) == []
    assert run.measured("inherit-0.3", "accuracy_final")["seeds"] == [None]
    assert [r["epoch"] for r in run.epochs("draw1-0.3", 0)] == [1, 2]
    sentence = "No ticket within 2 epochs at p = 30%, so that nothing was drawn there: seed 0."
    assert sentence in " ".join(run.out.split())


@pytest.mark.slow
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
        for arm in ("dense", "inherit-0.3", "snip-0.3", "draw1-0.3"):
            a, b = run.epochs(arm, seed), tiny.epochs(arm, seed)
            assert [r["epoch"] for r in a] == [r["epoch"] for r in b]
            assert a[-1]["train_loss"] == pytest.approx(b[-1]["train_loss"], rel=0.02)
