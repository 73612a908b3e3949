import dataclasses
from pathlib import Path
from typing import Literal

import pytest

from experiments._cli import RunConfig, fail, parse


@dataclasses.dataclass(frozen=True)
class Model:
    """Sizes of the network."""

    kind: Literal["vgg", "resnet"] = "vgg"
    """Which network."""
    widths: tuple[int, ...] = (16, 32)
    """Channels of each stage."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """A made-up experiment."""

    prune_ratio: float = 0.5
    """Fraction of channels removed, in (0, 1)."""
    latch: bool = True
    """Truncation stays on once triggered."""
    model: Model = Model()
    """The network."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.prune_ratio < 1:
            raise ValueError(
                f"prune_ratio={self.prune_ratio} is outside (0, 1); pass --prune_ratio 0.5."
            )


PRESETS = {
    "digits": Config(),
    "cifar10": Config(seeds=5, model=Model("resnet", (16, 32, 64)), prune_ratio=0.3),
}


def read(*argv, **more):
    prog, description = "python -m experiments.demo", "Prunes nothing."
    return parse(Config, PRESETS, list(argv), prog=prog, description=description, **more)


def test_no_flags_give_the_first_preset_with_its_name():
    assert read() == dataclasses.replace(PRESETS["digits"], preset="digits")


@pytest.mark.parametrize("flags", [["--preset", "cifar10"], ["--preset=cifar10"]])
def test_a_preset_picks_the_defaults(flags):
    assert read(*flags) == dataclasses.replace(PRESETS["cifar10"], preset="cifar10")


@pytest.mark.parametrize("order", [0, 1])
def test_flags_override_the_preset_whatever_their_order(order):
    preset, others = ["--preset", "cifar10"], ["--prune_ratio", "0.25", "--model.widths", "4", "8"]
    config = read(*(preset + others if order else others + preset))
    assert config.prune_ratio == 0.25
    assert config.model == Model("resnet", (4, 8))
    assert config.seeds == 5


def test_the_fixed_flags():
    config = read("--seeds", "7", "--out", "some/where", "--resume", "--no_latch")
    assert (config.seeds, config.out, config.resume) == (7, Path("some/where"), True)
    assert config.latch is False
    assert read("--prune-ratio", "0.25").prune_ratio == 0.25  # a hyphen is as good


def test_an_unknown_preset_is_one_sentence_that_lists_them(capsys):
    with pytest.raises(SystemExit) as stop:
        read("--preset", "cifar")
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "python -m experiments.demo: there is no preset 'cifar': did you mean 'cifar10'? choose one "
        "of digits, cifar10.\n"
    )


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--seeds", "0"], "seeds=0: a run needs at least one"),
        (["--prune_ratio", "1.2"], "prune_ratio=1.2 is outside (0, 1)"),
        (["--prune", "0.5"], "--prune_ratio"),  # names the nearest flag
        (["--model.kind", "mlp"], "invalid choice 'mlp'"),
        (["--preset"], "--preset"),
    ],
)
def test_wrong_flags_leave_with_code_2_and_say_why(argv, words, capsys):
    with pytest.raises(SystemExit) as stop:
        read(*argv)
    assert stop.value.code == 2
    err = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert words in err


def shown_help(capsys, *argv, **more):
    with pytest.raises(SystemExit) as stop:
        read(*argv, "--help", **more)
    assert stop.value.code == 0
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_help_documents_every_field_and_lists_the_presets(capsys):
    text = shown_help(capsys)
    for words in (
        "usage: python -m experiments.demo",
        "Prunes nothing.",
        "presets (the defaults below are those of 'digits'):",
        "digits the default",
        "cifar10 seeds=5, prune_ratio=0.3, model.kind=resnet, model.widths=(16, 32, 64)",
        "--preset NAME Which defaults to start from",
        "--seeds INT How many seeds to run",
        "--out DIR Folder for the results",
        "--resume, --no_resume Go on with an interrupted run",
        "--prune_ratio FLOAT Fraction of channels removed, in (0, 1). (default: 0.5)",
        "--latch, --no_latch Truncation stays on once triggered. (default: True)",
        "--model.kind {vgg,resnet} Which network. (default: vgg)",
        "--model.widths [INT [INT ...]] Channels of each stage. (default: 16 32)",
    ):
        assert words in text


def test_help_shows_the_chosen_presets_defaults_and_the_given_lines(capsys):
    text = shown_help(capsys, "--preset", "cifar10", about={"cifar10": "an hour on one GPU"})
    assert "(default: cifar10)" in text
    assert "(default: 16 32 64)" in text
    assert "those of 'cifar10'" in text
    assert "cifar10 an hour on one GPU" in text


def test_fail_is_a_sentence_and_code_2(capsys):
    with pytest.raises(SystemExit) as stop:
        fail("demo", "no data.")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "demo: no data.\n"
