"""The command line: what it explains, and one sentence for every wrong call."""

import ast
import dataclasses
import inspect

import pytest

from experiments import _cli, _training_config
from experiments.channels import _config as _shared
from experiments.worm import __main__ as job
from experiments.worm import _config
from experiments.worm._config import WormConfig
from experiments.worm._presets import PRESETS

PROG = "python -m experiments.worm: "


def sentences(module):
    """The text under each field of the module's dataclasses, read from the source."""
    found = {}
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ClassDef):
            for field, text in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    found[field.target.id] = " ".join(text.value.value.split())
    return found


def words(text):
    return " ".join(text.replace("│", " ").replace("─", " ").split())


def test_help_explains_every_field_with_a_sentence(worm, tmp_path):
    run = worm(tmp_path / "run", "--help")
    assert (run.code, run.err) == (0, "")
    shown = words(run.out)
    texts = sentences(_cli) | sentences(_training_config) | sentences(_shared) | sentences(_config)
    for field in dataclasses.fields(WormConfig):
        assert f"--{field.name}" in shown, field.name
        text = texts[field.name]
        assert text.endswith("."), field.name
        assert len(text.split()) > 2, field.name
        assert text in shown, field.name
    for preset in PRESETS:
        assert f" {preset} {job.ABOUT[preset]}"[:40] in shown
    assert "--prune_ratio FLOAT" in shown
    assert "(default: 0.5)" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    """A call that is let through by mistake ends here."""

    def run(self, folder, progress):
        pytest.fail("a wrong call was let through")

    monkeypatch.setattr(job.Job, "run", run)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("--prune_ratio 0", "prune_ratio must lie strictly between 0 and 1, got 0.0."),
        ("--prune_ratio 1", "prune_ratio must lie strictly between 0 and 1, got 1.0."),
        ("--prune_ratio 1.2", "prune_ratio must lie strictly between 0 and 1, got 1.2."),
        ("--prune_ratio nan", "prune_ratio must be a finite decimal number, got nan."),
        ("--window 1", "window must be an integer from 2 to 31 masks, got 1."),
        ("--window -3", "window must be an integer from 2 to 31 masks, got -3."),
        ("--batch_size 0", "batch_size is 0. Give at least one example a step."),
        ("--batch_size 1281", "batch_size 1281 is larger than the training split of 1280 images."),
        ("--limit 0", "limit=0 leaves no rows"),
        ("--limit 5", "Lower it, or raise limit."),
        ("--preset nope", "there is no preset 'nope': choose one of digits, fashion_mnist,"),
        ("--arms standard nope", "invalid choice 'nope' for argument '--arms'"),
        ("--arms worm", "arms must contain 'standard'"),
        ("--arms standard standard", "Name each arm once."),
        ("--arms", "arms is empty. Name at least one of dense, standard"),
        ("--model lenet300", "The model 'lenet300' has no BatchNorm"),
        ("--model nope", "there is no model named 'nope'; there are convnet, digits,"),
        ("--model vgg16", "a map of 1x1 is too small for a 2x2 pooling"),
        ("--data nope", "unknown data set 'nope'; known are digits, cifar10,"),
        ("--epochs -5", "epochs (-5) must be longer than the search."),
        ("--epochs 100000000", "that a step counter holds. Lower epochs or milestones."),
        ("--milestones 100000000", "that a step counter holds. Lower epochs or milestones."),
        ("--milestones 5 5", "Recipe.milestones are (5, 5)."),
        ("--search_cap 3", "search_cap is 3; a window of 5 masks fills after 4 epochs"),
        ("--search_cap 30", "epochs (30) must be longer than the search."),
        ("--first_seed -1", "first_seed is -1 and seeds 3. Seeds are integers from 0 to 2**32"),
        ("--first_seed 4294967295", "Seeds are integers from 0 to 2**32 - 1."),
        ("--seeds 0", "seeds=0: a run needs at least one"),
        ("--split_seed -1", "split seed -1 is negative"),
        ("--epsilon nan", "epsilon is nan. Give a mask distance in [0, 1)."),
        ("--margin 0.95", "margin is 0.95."),
        ("--factor -1", "factor must be a number in [0, 1]"),
        ("--chi nan", "chi must be a number in [0, 1]"),
        ("--chis 0.5 1.5", "chi must be a number in [0, 1]"),
        ("--target 0", "target is 0.0. Give an accuracy in (0, 1]."),
        ("--l1 inf", "l1 is inf."),
        ("--learning_rate nan", "Recipe.learning_rate is nan."),
        ("--momentum 1", "Recipe.momentum is 1.0."),
        ("--weight_decay -1", "Recipe.weight_decay is -1.0."),
        ("--scale_init 0", "scale_init=0.0 must be positive"),
        ("--compute float64", "invalid choice 'float64' for argument '--compute'"),
        ("--driver fast", "invalid choice 'fast' for argument '--driver'"),
        ("--checkpoint_seconds nan", "checkpoint_seconds is nan."),
        ("--retrain dense", "invalid choice 'dense' for argument '--retrain'"),
        ("--shrunk_optimizer fresh", "invalid choice 'fresh' for argument '--shrunk_optimizer'"),
        ("--shrunk_optimizer carried", "pass --retrain shrunk to carry the search's."),
        ("--speed_rounds -1", "speed_rounds is -1. Give a number of rounds, 0 for no timing."),
        ("--epochs many", "Error parsing --epochs: invalid literal"),
        ("--prune 0.3", "--prune_ratio"),
    ],
)
def test_a_wrong_call_is_a_sentence_and_leaves_no_folder(worm, tmp_path, argv, sentence):
    run = worm(tmp_path / "run", *argv.split())
    assert (run.code, run.out) == (2, "")
    assert sentence in words(run.err)
    if run.err.startswith(PROG):  # else the parser's box, which names the flag
        assert run.err.count("\n") == 1
    assert "Traceback" not in run.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", [None, "empty"])
def test_missing_data_is_a_sentence(worm, tmp_path, monkeypatch, where):
    if where is None:
        monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    else:
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / where))
    run = worm(tmp_path / "run", "--preset", "cifar10")
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith(PROG)
    assert run.err.count("\n") == 1
    assert "'cifar10'" in run.err
    assert "TFDS_DATA_DIR" in run.err or "tfds build cifar10" in run.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_a_sentence(worm, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    for more, sentence in (
        ((), "is not empty; pass --resume to go on with the run in it, or another --out DIR."),
        (("--resume",), "has files but no config.json, so there is no run to resume in it;"),
    ):
        run = worm(tmp_path, *more)
        assert (run.code, run.out) == (2, "")
        assert run.err.startswith(f"{PROG}{tmp_path} {sentence}")
        assert run.err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_wrong_call_can_be_put_right_in_the_same_folder(worm, tmp_path, monkeypatch):
    """What was refused has left nothing that the next call would stumble over."""
    assert worm(tmp_path / "run", "--prune_ratio", "1.2").code == 2
    monkeypatch.setattr(job.Job, "run", lambda self, folder, progress: {})
    monkeypatch.setattr(job.Job, "report", lambda self, folder, failures, seconds: 0)
    assert worm(tmp_path / "run").code == 0


def test_an_interrupt_says_how_to_go_on(worm, tmp_path, monkeypatch):
    def interrupted(self, folder, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(job.Job, "run", interrupted)
    run = worm(tmp_path / "run")
    assert run.code == 130
    assert run.err == f"{PROG}interrupted; the same command with --resume goes on.\n"
