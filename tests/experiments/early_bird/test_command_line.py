"""The command line: what it explains, and one sentence for every wrong call."""

import dataclasses

import pytest

from experiments.early_bird import __main__ as job
from experiments.early_bird._config import PRESETS, EarlyBirdConfig

PROG = "python -m experiments.early_bird: "


def words(text):
    return " ".join(text.replace("│", " ").replace("─", " ").split())


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    """A call that is let through by mistake ends here."""

    def run(self, folder, progress):
        pytest.fail("a wrong call was let through")

    monkeypatch.setattr(job.Job, "run", run)


def test_help_names_every_field_and_preset(early_bird, tmp_path):
    run = early_bird(tmp_path / "run", "--help")
    assert (run.code, run.err) == (0, "")
    shown = words(run.out)
    for field in dataclasses.fields(EarlyBirdConfig):
        assert f"--{field.name}" in shown, field.name
    for preset in PRESETS:
        assert f" {preset} {job.ABOUT[preset]}"[:40] in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("--prune_ratios 0", "prune_ratio must lie strictly between 0 and 1, got 0.0."),
        ("--prune_ratios 0.5 1.2", "prune_ratio must lie strictly between 0 and 1, got 1.2."),
        ("--prune_ratios", "prune_ratios is empty. Give at least one fraction to prune."),
        ("--prune_ratios 0.5 0.5", "prune_ratios are 0.5, 0.5. Name each once."),
        ("--methods snip snip", "methods are snip, snip. Name each once."),
        ("--methods nope", "invalid choice 'nope' for argument '--methods'"),
        ("--draw_epochs 0 1", "draw_epochs are (0, 1). Give rising epochs from 1 to epochs (16)"),
        ("--draw_epochs 2 2", "draw_epochs are (2, 2)."),
        ("--draw_epochs 17", "Give rising epochs from 1 to epochs (16)"),
        ("--window 18", "window is 18; that many masks fill after 17 epochs, and epochs is 16."),
        ("--window 1", "window must be an integer from 2 to 31 masks, got 1."),
        ("--model lenet300", "The model 'lenet300' has no BatchNorm"),
        ("--batch_size 1281", "larger than the training split of 1280 images."),
        ("--l1 inf", "l1 is inf."),
        ("--preset cifar10_early", "did you mean cifar10_early_bird"),
    ],
)
def test_a_wrong_call_is_a_sentence_and_leaves_no_folder(early_bird, tmp_path, argv, sentence):
    run = early_bird(tmp_path / "run", *argv.split())
    assert (run.code, run.out) == (2, "")
    assert sentence in words(run.err).replace("'cifar10_early_bird'", "cifar10_early_bird")
    if run.err.startswith(PROG):
        assert run.err.count("\n") == 1
    assert "Traceback" not in run.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused(early_bird, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    run = early_bird(tmp_path, *early_bird.tiny)
    assert run.code == 2
    assert "is not empty; pass --resume" in run.err
