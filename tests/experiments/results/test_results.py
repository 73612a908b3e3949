"""Results: copied from finished runs only, and their tables made from the JSON alone."""

import json
import re
import shlex
from pathlib import Path

import pytest

from experiments._cli import parse
from experiments._records import canonical
from experiments.dst_criteria import _config as dst_criteria
from experiments.dst_criteria._config import DstConfig
from experiments.early_bird import _config as early_bird
from experiments.early_bird._config import EarlyBirdConfig
from experiments.foresight import _config as foresight
from experiments.foresight._config import ForesightConfig
from experiments.layer_tickets import _config as layer_tickets
from experiments.layer_tickets._config import LayerConfig
from experiments.report import Censored, Metric, comparison, comparison_record
from experiments.results import ResultError, add, page, read
from experiments.results.__main__ import main
from experiments.structured_tickets import _config as structured_tickets
from experiments.structured_tickets._config import TicketConfig
from experiments.worm import _presets as worm
from experiments.worm._config import WormConfig

ARMS = {
    "standard": {"epochs": [4.0, 6.0, 5.0], "accuracy": [0.5, 0.25, 0.75]},
    "worm": {"epochs": [3.0, Censored(12), None], "accuracy": [0.75, 0.5, 1.0]},
}
METRICS = [Metric("epochs", "Epochs", spec=".1f"), Metric("accuracy", "Accuracy", "%", ".1f", 100)]
START = {"versions": {"jax": "0.10.2"}, "hardware": {"backend": "cpu"}}
HARDWARE = {
    "backend": "cpu",
    "device_kind": "cpu",
    "devices": 1,
    "cpu": "a processor",
    "cpu_cores": 2,
}
ROOT = Path(__file__).parents[3]


def a_run(path, **changes):
    path.mkdir()
    config = {
        "experiment": "worm",
        "command": "python -m experiments.worm --seeds 3",
        "config": {"seeds": 3},
        "versions": {"jax": "0.10.2"},
        "hardware": HARDWARE,
        "resumed": [],
    }
    summary = {
        "seeds": [0, 1, 2],
        "tables": [comparison_record("Tickets", ARMS, METRICS, "standard", notes=["A note."])],
        "failures": {},
    }
    for record, name in ((config, "config.json"), (summary, "summary.json")):
        kept = {k: changes.get(k, v) for k, v in record.items() if changes.get(k, v) is not None}
        (path / name).write_text(canonical(kept))
    return path


def test_a_table_is_the_one_that_the_run_showed(tmp_path):
    path = add(a_run(tmp_path / "worm-digits"), folder=tmp_path / "results")
    assert path == tmp_path / "results" / "worm-digits.json"
    table = comparison("Tickets", ARMS, METRICS, "standard", notes=["A note."]).markdown()
    text = page(read(path), path.name)
    assert text.startswith(table)
    assert "`python -m experiments.worm --seeds 3`, seeds 0, 1, 2" in text


def test_the_command_adds_a_run_and_writes_every_table(tmp_path, capsys):
    folder = tmp_path / "results"
    add(a_run(tmp_path / "first"), folder=folder)
    run = a_run(tmp_path / "second")
    assert main(["--add", str(run), "--name", "other", "--folder", str(folder)]) == 0
    names = ["first.json", "first.md", "other.json", "other.md"]
    assert sorted(p.name for p in folder.iterdir()) == names
    written = [(folder / name).read_text() for name in names]
    assert main(["--folder", str(folder)]) == 0
    assert [(folder / name).read_text() for name in names] == written
    assert "other.md" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"failures": {"worm": "diverged"}}, "these arms failed: worm"),
        ({"resumed": [{**START, "hardware": {"backend": "gpu"}}]}, "resumed on other"),
        ({"tables": None}, "has no 'tables'"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path, changes, sentence):
    with pytest.raises(ResultError, match=sentence):
        add(a_run(tmp_path / "run", **changes), folder=tmp_path)


def test_wrong_calls_are_sentences(tmp_path, capsys):
    calls = {
        ("--name", "x"): "--name goes with --add",
        ("--folder", str(tmp_path)): "There is no result in",
        ("--add", str(tmp_path / "nowhere")): "only a finished run is a result",
        ("--add", str(a_run(tmp_path / "run")), "--name", "../x"): "is no name for a result",
    }
    for argv, sentence in calls.items():
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2
        assert sentence in capsys.readouterr().err


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "torn.json").write_text('{"arms":')
    with pytest.raises(ResultError, match=r"torn\.json is not JSON"):
        read(tmp_path / "torn.json")


def test_every_committed_table_is_made_from_its_json():
    found = sorted((ROOT / "results").glob("*.json"))
    for path in found:
        assert path.with_suffix(".md").read_text() == page(read(path), path.name), path.name
        assert json.loads(path.read_text())["tables"]
    assert len(found) == len(list((ROOT / "results").glob("*.md"))) - 1  # README.md


def test_every_command_that_waits_can_be_typed():
    text = (ROOT / "results" / "README.md").read_text()
    commands = re.findall(r"`python -m experiments\.(\w+)( [^`]*)`", text)
    kinds = {
        "worm": (WormConfig, worm.PRESETS),
        "early_bird": (EarlyBirdConfig, early_bird.PRESETS),
        "dst_criteria": (DstConfig, dst_criteria.PRESETS),
        "foresight": (ForesightConfig, foresight.PRESETS),
        "structured_tickets": (TicketConfig, structured_tickets.PRESETS),
        "layer_tickets": (LayerConfig, layer_tickets.PRESETS),
    }
    assert kinds.keys() <= {name for name, _ in commands}
    for name, flags in commands:
        if name in kinds:
            config, presets = kinds[name]
            parse(config, presets, shlex.split(flags), prog=name, description="")
